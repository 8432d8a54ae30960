"""What the demo provider knows: a few answers of a bank's help page, in Portuguese, and the words that lead to them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Topic:
    """`words` are stems without accents; `more` answers follow-up questions by the name of a facet (see FACETS)."""

    words: tuple[str, ...]
    answer: str
    more: dict[str, str] = field(default_factory=dict)


# What a follow-up can ask about a subject. These words alone name no subject.
FACETS = {
    "example": ("exempl", "na pratica", "example"),
    "limit": ("limite", "valor maximo", "quanto posso", "limit"),
    "cost": ("quanto custa", "custo", "custa", "taxa", "paga", "preco", "juros", "gratis", "gratuit", "cost"),
    "time": ("prazo", "demora", "quanto tempo", "quando", "dias", "how long"),
    "documents": ("document", "preciso de que", "o que preciso", "requisito"),
    "how": ("como", "passo", "onde", "de que jeito", "how"),
    "more": ("mais", "explic", "detalh", "melhor", "more"),
}
# Other words of a follow-up.
_POINTING_BACK = (
    "e a o as os qual quais quanto quantos que eu me se voce pode poderia consegue dar um uma isso disso nisso esse "
    "essa este esta dele dela nele nela ele ela para pra de do da em no na por favor ha tem ter tenho existe algum "
    "alguma faco fazer faz fica ser seria e entao mas ai la isto ao aos com sobre quero gostaria saber posso preciso "
    "precisa valor maximo minimo tempo cada dia mes noite hoje sim nao ok certo and what about is the it"
)
POINTING_BACK = frozenset(_POINTING_BACK.split())
# The subject of a facet that stands alone.
FACET_TOPICS = {"limit": "cartao", "cost": "tarifas"}

URGENT = ("fraude", "senha", "bloqueio")  # these come before any other topic of a question
TOPICS = {
    "fraude": Topic(
        ("golpe", "fraud", "clonaram", "clonad", "roubaram meu dinheiro", "nao reconheco", "hacke", "phishing", "scam"),
        "Se você suspeita de fraude, aja logo: bloqueie o cartão e o acesso no aplicativo, ligue para a central de "
        "atendimento pelo número que está no verso do cartão e registre um boletim de ocorrência. Se foi um Pix, peça "
        "a devolução pelo Mecanismo Especial de Devolução (MED) no aplicativo do seu banco.",
        {
            "example": "Por exemplo: alguém liga dizendo ser do banco e pede um Pix para “cancelar uma compra”. É "
            "golpe: desligue e ligue você mesmo para o número que está no verso do cartão.",
            "time": "Avise o banco assim que notar. A devolução de um Pix por fraude pode ser pedida em até 80 dias da "
            "transação, mas quanto antes, maior a chance de o dinheiro ainda estar na conta de destino.",
            "how": "No aplicativo, abra o comprovante do Pix e escolha contestar ou relatar um problema. Para compras "
            "no cartão, abra a fatura e conteste o lançamento.",
        },
    ),
    "senha": Topic(
        ("senha", "password", "token", "codigo de seguranca", "cvv"),
        "Nunca envie sua senha, token ou código de segurança por aqui nem a ninguém: o banco não pede esses dados em "
        "conversas. Para criar uma nova senha, use “Esqueci minha senha” na tela de entrada do aplicativo ou vá a um "
        "caixa eletrônico ou a uma agência com um documento. Se você já contou a senha a alguém, troque-a agora.",
        {
            "how": "Na tela de entrada do aplicativo, toque em “Esqueci minha senha”, confirme sua identidade e crie "
            "uma nova. Não me envie nenhuma senha, nem a antiga.",
            "example": "Uma boa senha não tem datas nem o número do telefone, e não é usada em outro lugar. Não envie "
            "a sua aqui, nem como exemplo.",
        },
    ),
    "bloqueio": Topic(
        ("perdi", "perdid", "roubad", "roubaram", "furtad", "bloque", "desbloque", "segunda via", "lost", "stolen"),
        "Para bloquear um cartão perdido ou roubado, abra o aplicativo, escolha o cartão e toque em bloquear, ou ligue "
        "para a central de atendimento, que funciona 24 horas. Depois peça a segunda via. Se houve roubo, registre "
        "também um boletim de ocorrência.",
        {
            "time": "O bloqueio vale na hora. O novo cartão costuma chegar em alguns dias úteis; o prazo do seu "
            "endereço aparece no aplicativo quando você pede a segunda via.",
            "cost": "O bloqueio não custa nada. A segunda via por perda pode ter tarifa; o valor está na tabela de "
            "tarifas do banco e aparece antes de você confirmar.",
            "example": "Por exemplo: você perdeu a carteira à noite. Bloqueie já pelo aplicativo de qualquer aparelho; "
            "se a encontrar, um bloqueio temporário pode ser desfeito ali mesmo.",
        },
    ),
    "pix": Topic(
        ("pix", "chave aleatoria"),
        "O Pix transfere dinheiro em segundos, a qualquer hora, todos os dias. No aplicativo, escolha Pix, informe a "
        "chave (CPF ou CNPJ, celular, e-mail ou chave aleatória) ou leia um QR Code, confira o nome de quem recebe e "
        "confirme.",
        {
            "limit": "O limite do Pix é definido por período e você o vê e ajusta no aplicativo. À noite, das 20h às "
            "6h, o limite padrão entre pessoas físicas é de R$ 1.000. Reduzir vale na hora; aumentar leva de 24 a 48 "
            "horas, por segurança.",
            "cost": "Para pessoas físicas, fazer e receber Pix é gratuito, salvo exceções como o uso comercial. "
            "Empresas podem pagar tarifa.",
            "time": "O dinheiro chega em segundos, inclusive à noite, em fins de semana e feriados.",
            "example": "Por exemplo: para pagar R$ 50 a um amigo, escolha Pix, digite o celular dele como chave, "
            "confira o nome que aparece e confirme.",
            "documents": "Basta ter conta e um CPF ou CNPJ. Para cadastrar o celular ou o e-mail como chave, você "
            "confirma um código que chega nele; não conte esse código a ninguém.",
        },
    ),
    "emprestimo": Topic(
        ("emprest", "credito pessoal", "consignad", "financia", "parcela", "loan", "divida"),
        "Antes de contratar um empréstimo, compare o Custo Efetivo Total (CET), que reúne juros, tarifas e impostos. "
        "No aplicativo você simula o valor e o número de parcelas; a aprovação depende de análise de crédito.",
        {
            "limit": "O valor que pode ser emprestado depende da análise de crédito e da sua renda; a simulação no "
            "aplicativo mostra o seu. No consignado, a parcela não pode passar da margem definida em lei.",
            "cost": "Os juros dependem da modalidade e do seu perfil: o consignado costuma custar menos que o crédito "
            "pessoal. Olhe sempre o CET, que aparece antes da contratação.",
            "time": "Depois de aprovado e assinado, o crédito pessoal costuma cair na conta em até um dia útil. Você "
            "pode desistir em até 7 dias quando contrata a distância, devolvendo o valor recebido.",
            "documents": "Em geral: documento com foto, CPF, comprovante de renda e comprovante de endereço.",
            "example": "Um exemplo: R$ 1.000 em 12 parcelas com juros de 2% ao mês dão parcelas de cerca de R$ 94,56, "
            "R$ 1.134,72 ao todo, sem contar impostos e tarifas. A sua taxa pode ser outra.",
        },
    ),
    "investimento": Topic(
        ("invest", "poupanca", "cdb", "tesouro", "render", "rendimento", "aplicar", "aplicacao", "savings"),
        "Para começar a investir, responda ao questionário de perfil no aplicativo. Poupança, CDB e Tesouro Direto são "
        "opções conservadoras; compare rendimento, prazo, liquidez e impostos. Eu dou informações gerais, não "
        "recomendações de investimento.",
        {
            "limit": "Poupança e CDB têm a garantia do FGC até R$ 250 mil por CPF e por instituição. O valor mínimo "
            "para aplicar aparece em cada produto.",
            "cost": "A poupança é isenta de imposto de renda para pessoas físicas. No CDB, o imposto vai de 22,5% a "
            "15% do rendimento, conforme o prazo.",
            "time": "A poupança rende a cada 30 dias. No CDB, veja se a liquidez é diária ou só no vencimento.",
            "example": "Por exemplo: quem quer uma reserva para emergências costuma procurar algo com liquidez diária, "
            "como um CDB que permite resgate a qualquer dia.",
        },
    ),
    "horario": Topic(
        (
            "horario",
            "horas",
            "abre",
            "abrem",
            "fecha",
            "funcionam",
            "agencia",
            "fim de semana",
            "feriado",
            "opening",
            "hours",
        ),
        "As agências atendem de segunda a sexta-feira, em geral das 10h às 16h, exceto feriados; o horário pode mudar "
        "de cidade para cidade. O aplicativo e a central para bloqueios funcionam 24 horas, todos os dias.",
        {"example": "Por exemplo: numa terça-feira comum, você é atendido na agência em geral das 10h às 16h."},
    ),
    "tarifas": Topic(
        ("tarifa", "anuidade", "mensalidade", "cobranca", "cobrad", "pacote de servicos", "fees", "fee"),
        "Todo cliente pessoa física tem direito aos serviços essenciais gratuitos, como alguns saques, transferências "
        "entre contas do mesmo banco e extratos por mês. Pacotes e serviços extras têm tarifa; a tabela completa está "
        "no aplicativo e nas agências.",
        {
            "example": "Por exemplo: os serviços essenciais incluem quatro saques e dois extratos por mês sem tarifa; "
            "o quinto saque pode ser cobrado.",
            "how": "No aplicativo, abra a área de tarifas e pacotes: lá você vê o que paga e pode mudar para os "
            "serviços essenciais, sem mensalidade.",
        },
    ),
    "cartao": Topic(
        ("cartao", "cartoes", "fatura", "card", "credito", "debito"),
        "No aplicativo, em Cartões, você vê a fatura, o limite e as compras, cria um cartão virtual e ajusta o uso "
        "internacional. Pague a fatura inteira até o vencimento para não pagar juros.",
        {
            "limit": "O limite do cartão aparece no aplicativo, em Cartões. Você pode reduzi-lo quando quiser; um "
            "aumento depende de análise de crédito.",
            "cost": "Alguns cartões têm anuidade; o valor está no contrato e no aplicativo. O crédito rotativo tem "
            "juros altos: prefira pagar a fatura inteira.",
            "time": "Uma compra feita depois do fechamento entra na fatura seguinte. O fechamento costuma ser alguns "
            "dias antes do vencimento.",
            "example": "Por exemplo: com vencimento no dia 10 e fechamento no dia 3, uma compra do dia 4 só entra na "
            "fatura do mês seguinte.",
            "documents": "Para pedir um cartão: documento com foto, CPF e, para análise do limite, comprovante de "
            "renda.",
        },
    ),
    "conta": Topic(
        ("conta", "abrir", "abertura", "saldo", "extrato", "account", "encerrar"),
        "Você abre uma conta pelo aplicativo: informe seus dados, fotografe um documento e faça a foto do rosto. Saldo "
        "e extrato ficam na tela inicial. Para encerrar a conta, faça o pedido no aplicativo ou numa agência.",
        {
            "limit": "Cada conta tem limites diários para saques e transferências; você os vê e ajusta no aplicativo.",
            "cost": "Há conta sem mensalidade, com os serviços essenciais gratuitos. Pacotes com mais serviços têm "
            "tarifa.",
            "time": "A análise da abertura costuma levar poucos dias úteis; o aplicativo avisa o resultado.",
            "documents": "Documento com foto (RG, CNH ou passaporte), CPF e comprovante de endereço.",
            "example": "Por exemplo: baixe o aplicativo, toque em “Abrir conta”, fotografe a CNH, faça a foto do rosto "
            "e espere a confirmação.",
        },
    ),
    "atendente": Topic(
        ("atendente", "humano", "pessoa de verdade", "falar com alguem", "falar com uma pessoa", "ouvidoria", "human"),
        "Eu não consigo transferir esta conversa. Para falar com uma pessoa, use o atendimento no aplicativo, ligue "
        "para a central pelo número no verso do cartão ou vá a uma agência. Se não resolver, procure a ouvidoria.",
    ),
}

SMALL_TALK = {
    "identidade": Topic(
        ("quem e voce", "o que voce faz", "o que voce sabe", "voce e um robo", "seu nome", "ajuda", "who are you"),
        "Sou o BancoBot. Respondo a perguntas gerais sobre contas, cartões e limites, Pix, tarifas, empréstimos, "
        "investimentos, horários, bloqueio de cartão, fraudes e senhas.",
    ),
    "agradecimento": Topic(
        ("obrigad", "valeu", "agradec", "thank"), "De nada! Se precisar de mais alguma coisa, é só perguntar."
    ),
    "despedida": Topic(("tchau", "ate logo", "ate mais", "adeus", "bye"), "Até logo! Quando precisar, estou por aqui."),
    "saudacao": Topic(
        ("ola", "oi", "oie", "bom dia", "boa tarde", "boa noite", "hello", "hi", "hey", "e ai"),
        "Olá! Como posso ajudar? Pergunte sobre contas, cartões, Pix, tarifas, empréstimos, investimentos ou horários.",
    ),
}

DEMONSTRATION = (
    "(Esta é uma demonstração: respondo com um pequeno conjunto de respostas prontas, sem modelo de linguagem, e não "
    "vejo dados de nenhuma conta.)"
)
UNKNOWN = (
    "Desculpe, isso eu não sei responder. Conheço só o básico sobre contas, cartões, Pix, tarifas, empréstimos, "
    "investimentos, horários, bloqueio de cartão, fraudes e senhas. Para outros assuntos, fale com o atendimento do "
    "banco."
)
NO_MORE = "Sobre esse detalhe eu não tenho mais informações. O que sei sobre o assunto é isto:"
PORTUGUESE_ONLY = "Desculpe, por enquanto eu só respondo em português."
_ENGLISH = (
    "the what how is are my your you can could does i want need please hello thanks thank where when who to of and "
    "open account card loan fee fees password lost stolen opening hours about"
)
ENGLISH_WORDS = frozenset(_ENGLISH.split())
# Words that English and Portuguese share are left out.
_PORTUGUESE = "o e de do da que como qual para meu minha um uma eu voce nao sim por em no na com"
PORTUGUESE_WORDS = frozenset(_PORTUGUESE.split())
