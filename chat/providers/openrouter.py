"""OpenRouter: OpenAI's protocol, with the app's name in the headers, sticky routing and prices."""

from typing import Any

from .base import Options
from .openai_compatible import OpenAICompatible

MAX_SESSION_ID_CHARS = 256


class OpenRouter(OpenAICompatible):
    """`app_url` and `app_title` name the app in OpenRouter's statistics. They are ASCII, and may be empty."""

    name = "openrouter"
    base_url = "https://openrouter.ai/api/v1"
    keep_alive = 60.0  # seconds; its edge keeps idle connections for minutes, and a new one takes three round trips

    def __init__(self, *, app_url: str = "", app_title: str = "BancoBot", **settings: Any) -> None:
        if not f"{app_url}{app_title}".isascii() or not f"{app_url}{app_title}".isprintable():
            raise ValueError("the app's URL and title must be printable ASCII: they are sent in headers")
        self._app = {"HTTP-Referer": app_url, "X-OpenRouter-Title": app_title}
        super().__init__(**settings)

    def extra_headers(self) -> dict[str, str]:
        return {name: value for name, value in self._app.items() if value}

    def extra_body(self, options: Options) -> dict[str, Any]:
        # The history fits already. For small models OpenRouter would silently cut out its middle.
        body: dict[str, Any] = {"plugins": [{"id": "context-compression", "enabled": False}]}
        if options.session_id:
            body["session_id"] = options.session_id[:MAX_SESSION_ID_CHARS]  # the same server, so its prompt cache hits
        return body
