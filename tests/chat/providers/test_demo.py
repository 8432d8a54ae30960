"""The built-in demo, which answers a new user without a key."""

import asyncio
from decimal import Decimal

import pytest

from chat.providers import ChatMessage, Options, make_provider
from chat.providers.demo.answers import DEMONSTRATION, TOPICS
from tests.support.replies import Answer, ask, collect, list_models


def talk(*questions: str) -> list[Answer]:
    """A whole conversation with the demo; each question comes with the history before it."""

    async def run() -> list[Answer]:
        demo = make_provider("demo")
        history: list[ChatMessage] = []
        answers = []
        for question in questions:
            history.append(ChatMessage("user", question))
            answers.append(await collect(demo, history, Options("")))
            history.append(ChatMessage("assistant", answers[-1].text))
        return answers

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Como abro uma conta?", "conta"),
        ("QUERO UM CARTÃO", "cartao"),
        ("quero um cartao", "cartao"),
        ("Como funciona o PIX?", "pix"),
        ("Quais são as tarifas?", "tarifas"),
        ("Preciso de um empréstimo", "emprestimo"),
        ("Onde posso investir?", "investimento"),
        ("Que horas abre a agência?", "horario"),
        ("Perdi meu cartão!", "bloqueio"),
        ("Acho que caí num golpe do Pix", "fraude"),
        ("Esqueci a senha do cartão", "senha"),
        ("Quero falar com um atendente", "atendente"),
    ],
)
def test_it_knows_the_basics(question: str, topic: str) -> None:
    assert talk(question)[0].text.startswith(TOPICS[topic].answer)


@pytest.mark.parametrize(
    ("question", "said"), [("Olá", "Como posso ajudar"), ("Muito obrigado!", "De nada"), ("Tchau", "Até logo")]
)
def test_it_is_polite(question: str, said: str) -> None:
    assert said in talk(question)[0].text


def test_a_follow_up_keeps_its_subject() -> None:
    answers = talk(
        "Como funciona o Pix?", "E qual o limite?", "Pode dar um exemplo?", "E para empréstimos?", "E os juros?"
    )
    assert answers[1].text == TOPICS["pix"].more["limit"]
    assert answers[2].text == TOPICS["pix"].more["example"]
    assert answers[4].text == TOPICS["emprestimo"].more["cost"]


def test_small_talk_in_between_does_not_change_the_subject() -> None:
    assert (
        talk("Fale da poupança", "Obrigado", "E o imposto, quanto custa?", "Qual o limite?")[3].text
        == (TOPICS["investimento"].more["limit"])
    )


def test_without_a_subject_a_limit_is_that_of_the_card() -> None:
    assert talk("Qual o limite?")[0].text.startswith(TOPICS["cartao"].answer)


def test_it_says_once_per_conversation_that_it_is_a_demonstration() -> None:
    texts = [answer.text for answer in talk("Oi", "Como funciona o Pix?", "Obrigado")]
    assert [DEMONSTRATION in text for text in texts] == [True, False, False]


@pytest.mark.parametrize(
    "question", ["Como faço um bolo de cenoura?", "Quem ganhou o jogo?", "", "🙂", "   ", "xyz " * 2000]
)
def test_it_says_so_when_it_does_not_know(question: str) -> None:
    assert "não sei responder" in talk("Como funciona o Pix?", question)[1].text


def test_it_never_asks_for_a_password_and_warns_who_sends_one() -> None:
    text = talk("minha senha é 4321, pode ver meu saldo?")[0].text
    assert "Nunca envie sua senha" in text
    assert "4321" not in text


def test_no_answer_asks_for_a_secret() -> None:
    texts = [text for topic in TOPICS.values() for text in (topic.answer, *topic.more.values())]
    asking = (
        "digite sua senha",
        "informe sua senha",
        "envie sua senha para",
        "me diga sua senha",
        "qual é a sua senha",
    )
    assert not [text for text in texts if any(words in text.lower() for words in asking)]


def test_it_answers_english_in_portuguese() -> None:
    text = talk("I lost my card")[0].text
    assert "só respondo em português" in text
    assert TOPICS["bloqueio"].answer in text


def test_it_gives_the_same_answer_to_the_same_conversation() -> None:
    assert talk("Oi", "Como funciona o Pix?")[1].pieces == talk("Oi", "Como funciona o Pix?")[1].pieces


def test_it_streams_word_by_word_and_counts_what_it_streams() -> None:
    answer = ask(make_provider("demo"), "Como funciona o Pix?")
    words = [piece for piece in answer.pieces if piece.text]
    assert len(words) > 20
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, len(words))
    assert (answer.usage.estimated, answer.usage.cost, answer.last.finish_reason) == (False, Decimal(0), "stop")


def test_it_keeps_to_max_tokens() -> None:
    answer = ask(make_provider("demo"), "Como funciona o Pix?", max_tokens=3)
    assert answer.text == "O Pix transfere "
    assert (answer.last.finish_reason, answer.usage.completion_tokens) == ("length", 3)


def test_it_answers_as_its_own_model_whatever_is_asked_for() -> None:
    assert ask(make_provider("demo"), model="openai/gpt-9").last.model == "demo/bancobot-faq"


def test_it_lists_itself() -> None:
    (model,) = list_models(make_provider("demo"))
    assert model["id"] == "demo/bancobot-faq"
    assert model["context_length"] > 0
    assert set(model["pricing"].values()) == {"0"}
