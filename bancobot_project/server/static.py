"""The static files: pages' scripts and styles, the admin's, the documentation's.

servestatic finds them and knows their types. What is sent of them is decided here: the library reads compressed forms
from the disk, where a package's files have none, and gives both forms the same ETag.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from wsgiref.headers import Headers

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from servestatic.middleware import ServeStaticMiddleware
from servestatic.responders import StaticFile

from web.errors import ApiError, json_error
from web.responses import KeptAnswer, accepts_gzip, gzipped, keep

Stats = dict[str, os.stat_result] | None  # by path
TEXTS = ("text/", "application/json", "image/svg+xml")  # pictures, fonts and archives are compressed already
WORTH_IT = 512  # bytes; less than that is lost among an answer's headers


class File(StaticFile):
    """A file with its headers. Its compressed form is made at its first use and then kept in memory.

    Not at the start: all of them together take more than a second, and a service sends few of them.
    """

    def __init__(self, path: str, headers: list[tuple[str, str]], stat_cache: Stats = None) -> None:
        super().__init__(path, headers, stat_cache=stat_cache)
        self._path = Path(path)
        found: dict[str, str] = dict(self.alternatives[0][2])
        size = int(found.pop("Content-Length"))
        self._is_compressible = found["Content-Type"].startswith(TEXTS) and size >= WORTH_IT
        for of_the_disk in ("ETag", "Last-Modified"):  # the same for both forms, and other on another machine
            found.pop(of_the_disk, None)
        self._headers = found | ({"Vary": "Accept-Encoding"} if self._is_compressible else {})

    @cached_property
    def _gzipped(self) -> KeptAnswer:
        return keep(gzipped(self._path.read_bytes()))

    def answer(self, request: HttpRequest) -> HttpResponse:
        """The file in the form that the reader wants, or 304 where the reader has that form.

        Who asks for a range gets the whole file, as HTTP allows: nobody needs a part of a script.
        """
        if request.method not in ("GET", "HEAD"):
            return json_error(request, ApiError("method_not_allowed", headers={"Allow": "GET, HEAD"}))
        if self._is_compressible and accepts_gzip(request):
            (body, etag), coding = self._gzipped, {"Content-Encoding": "gzip"}
        else:
            (body, etag), coding = keep(self._path.read_bytes()), {}
        headers = {**self._headers, **coding, "ETag": etag, "Content-Length": str(len(body))}
        answer: Any = HttpResponse(body, headers=headers)
        return cast(HttpResponse, get_conditional_response(request, etag, response=answer))


class StaticFiles(ServeStaticMiddleware):
    """Answers requests for static files. All others go on."""

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        file: File | None = self.files.get(request.path_info)
        if file is None:
            passed_on: HttpResponseBase = await self.get_response(request)
            return passed_on
        return await sync_to_async(file.answer)(request)

    def get_static_file(self, path: str, url: str, stat_cache: Stats = None) -> File:
        headers = Headers([])
        self.add_mime_headers(headers, path, url)
        self.add_cache_headers(headers, path, url)
        return File(path, headers.items(), stat_cache)
