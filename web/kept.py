"""Answers that are made once and sent again and again, or not at all to who has them."""

import hashlib
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response


class KeptAnswer(NamedTuple):
    """A body with its strong ETag."""

    body: bytes
    etag: str

    def response(self, request: HttpRequest, content_type: str, **headers: str) -> HttpResponse:
        """The body, or 304 where the request's If-None-Match names it."""
        answer = HttpResponse(self.body, content_type=content_type)
        answer["Cache-Control"] = "private, no-cache"  # ask each time: it costs little while the answer is the same
        answer["ETag"] = self.etag
        for name, value in headers.items():
            answer[name] = value
        conditional: Any = get_conditional_response(request, etag=self.etag, response=answer)
        return conditional  # type: ignore[no-any-return]


def keep(body: bytes) -> KeptAnswer:
    return KeptAnswer(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
