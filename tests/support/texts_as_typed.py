"""Texts of replies: what people and models type, and what of it is markup."""

# Shown as they were typed.
AS_TYPED = [
    "2~3 dias e 1~2%", "~tio~ ou ~5~", "a ~~ b ~~ c", "\\[ a_1 * b_2 * c \\]", "\\(x*y*z\\) e \\( a_{*} \\)",
    "$$ a*b*c $$", "$$\na_1 * b_2 *c*\n- d\n$$\ne\n\\[\n# f\n> g\n\\]\nfim", "$x_1$ and $y_2$",
    "Seja $a*b*c$ e $\\frac{a}{b}$.", "\\begin{align} a &= b_1 \\\\ c*d*e \\end{align}",
    "\\alpha_1 * \\beta_2 * \\{a\\} \\, \\; 10\\%", "US$ 5 e US$ 10", "$5 e $10", "$HOME e $PATH", "\\[ sem fim *",
    "snake_case_names", "__init__.py e __init__ e __name__ e __my_var__", "_a_b_c_d e a_b_", "____/____/____",
    "Nome: ____ Data: ____", "______________", "5*3*2", "a*b*c", "(2*3)*(4*5)", "2*(3+4)*5", "2**3**4",
    "f(x)**2 + g(x)**2", "2 * 3 * 4", "***.456.789-** e **.***.***/0001-**", "**** 1234 e ****5678", "*144# ou *144*1#",
    "Disque *123# ou *321*", "(*) Sujeito. (*) Outro.", "* * * * *", "*/5 * * * *", "def f(*args, **kwargs):",
    "int *p, *q; *p = *q;", "**", "***a", "Olá **mundo", "1986. Um ano\n1987. Outro", "42.", "007. Bond", "-", "+", "*",
    "#", "##", ">", "#hashtag #outra", "+55 11 91234-5678", "10\n+ 5\n= 15", ">= 5 dias\n>10%", ">>> print(1)",
    "-5 graus", "--\nJoão", "texto\n-", "texto\n=", "texto\n--", "texto\n:-", "<nome>", "<foo://a>", "~~~a~~~",
    "<b>x</b> e <br> e a < b > c", "<div>\nolá\n</div>", "<!-- nada -->", "<script>x</script>", "<?php x ?>",
    "<![CDATA[x]]>", "&amp; &nbsp; &lt;b&gt; &#38; &copy; &", "João <joao_s@banco.example>",
    "<https://banco.example/a_b>", "[^1]: nota\n\na[^1]", "[x]: https://banco.example/y", "[João]: Oi",
    "Veja [texto][1].\n\n[1]: https://banco.example 'título'", "[doc](arquivo.pdf)", "[x](#y)", "f[0](1)", "[vazio]()",
    "![pixel](data:image/png;base64,AAAA)", "https://banco.example/a_b_c_.", "(veja https://banco.example/a_(b)_c).",
    "www.banco.example/a_b*c_d", "joao_silva_x@banco.example",
    'Diga "https://banco.example" e “https://banco.example/x”.', ":) ;-) :-* \\o/ ^_^ e ^_^", "-_- e -_-", "*_* e *_*",
    "¯\\_(ツ)_/¯", "👩‍💻 🇧🇷 1️⃣", "a  b   c", "  um\n   dois\n\ttrês\tquatro", "um \ndois  \ntrês", "C:\\novo\\_teste",
    "C:\\_x\\*.txt", "\\\\servidor\\pasta\\_y", "\\d+\\.\\d+ e foo\\.com", '"a \\"b\\" c"', "a \\\\ b",
    "*.doc,*.xls e (*.pdf|*.png);*.csv", "rm *.o *.a", "/*texto*/", "**/node_modules/** e src/**/x", "a<br>b",
    "%TEMP%\\_x ..\\_y", "*️⃣ a *️⃣ b*", "=A1*B1*C1", "SELECT *, a.* FROM t", "H~2~O e ~/a", "a\n\n2025. b",
    "uma linha \\\noutra", "\\", "文字*文字", "a|b|c", "|", "a | b\nc | d",
]  # fmt: skip
# What they mean, as HTML without attributes that the page adds; markup is taken where it is meant.
AS_MEANT = {
    "~~x~~ e **~~y~~**": "<p><del>x</del> e <strong><del>y</del></strong></p>",
    "R$ 5 e R$ 10 *importante*": "<p>R$ 5 e R$ 10 <em>importante</em></p>",
    "custa $5 ou $10, *não* $": "<p>custa $5 ou $10, <em>não</em> $</p>",
    "*Se \\(a_i\\) e \\(b^*\\) então* fim": "<p><em>Se \\(a_i\\) e \\(b^*\\) então</em> fim</p>",
    "**Nota:**texto **\"Ok\"**.": "<p><strong>Nota:</strong>texto <strong>\"Ok\"</strong>.</p>",
    "**注意：**文本**「注」**文": "<p><strong>注意：</strong>文本<strong>「注」</strong>文</p>",
    "**B**anco é **ótimo**, _sim_ e __forte__":
        "<p><strong>B</strong>anco é <strong>ótimo</strong>, <em>sim</em> e <strong>forte</strong></p>",
    "***os dois*** e **a *b* c**": "<p><em><strong>os dois</strong></em> e <strong>a <em>b</em> c</strong></p>",
    "*30 dias úteis* **5** `a*b*c`": "<p><em>30 dias úteis</em> <strong>5</strong> <code>a*b*c</code></p>",
    "\\*a\\* \\_b\\_ c\\_d \\# R\\$ 5 1\\. x": "<p>*a* _b_ c_d # R$ 5 1. x</p>",
    "3. a\n5. b\n6. c":
        '<ol start="3"><li><span>a</span></li><li value="5"><span>b</span></li><li><span>c</span></li></ol>',
    "1. a\n1. b": "<ol><li><span>a</span></li><li><span>b</span></li></ol>",
    "2) a\n3) b": '<ol class="paren" start="2"><li><span>a</span></li><li><span>b</span></li></ol>',
    "- 5\n- R$ 3": '<ul class="minus"><li><span>5</span></li><li><span>R$ 3</span></li></ul>',
    "- [ ] um\n- [x] dois": "<ul><li>☐ <span>um</span></li><li>☑ <span>dois</span></li></ul>",
    "Título\n===\n\n# A C#\n\n## B ##": "<h3>Título</h3><h3>A C#</h3><h4>B</h4>",
    "um\ndois\n---\nfim": "<p>um\ndois</p><hr><p>fim</p>",
    "> a\n> b": "<blockquote><p>a\nb</p></blockquote>",
    "[site](https://banco.example \"Título\")": '<p><a href="https://banco.example" title="Título">site</a></p>',
    "![foto](https://banco.example/f.png)": '<p><a href="https://banco.example/f.png">foto</a></p>',
    "[![selo](https://a.example/s.png)](https://b.example)": '<p><a href="https://b.example">selo</a></p>',
    "**Sim**/**Não**, **a**-**b**, **100%**seguro": (
        "<p><strong>Sim</strong>/<strong>Não</strong>, <strong>a</strong>-<strong>b</strong>, "
        "<strong>100%</strong>seguro</p>"
    ),
    "[site](www.banco.example) **`a*b`** *[x](https://a.example)*": (
        '<p><a href="http://www.banco.example">site</a> <strong><code>a*b</code></strong> '
        '<em><a href="https://a.example">x</a></em></p>'
    ),
    "- a\n  - b": "<ul><li><span>a</span><ul><li><span>b</span></li></ul></li></ul>",
    "- a\n\n- b": "<ul><li><p>a</p></li><li><p>b</p></li></ul>",
    "**https://banco.example/a_b**":
        '<p><strong><a href="https://banco.example/a_b">https://banco.example/a_b</a></strong></p>',
}  # fmt: skip
# What each word of a random text is made of. None of them hides an address, or what names a block of code.
PIECES = [
    "a", "bc", "não", "文", "「", "🙂", "R$", "$", "%", " ", "  ", "\n", "\n\n", "\t", "    ", "*", "**", "***", "_",
    "__", "~", "~~", "`", "``", "```\n", "# ", "- ", "* ", "> ", ">", "1. ", "1986. ", "3) ", "|", "\n|---|\n",
    "|a|b|\n|-|-|\n", "\\", "\\[", "\\]", "\\(", "\\)", "$$", "<b>", "</b>", "<!--", "-->", "&amp;", "[", "]", "(", ")",
    "[x]: ", "!", "https://a.example/b_c", "j_s@a.example", ".", ",", "=", "---", '"', "/", "+", "[^1]", ":)", "\\_",
    "\\*", "\\begin{x}", "\\end{x}",
]  # fmt: skip
