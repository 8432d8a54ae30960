"""Django's debug page for exceptions: the place in the code, without secrets and without what people wrote."""

from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from web.redaction import mask


class Filter(SafeExceptionReporterFilter):
    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType | None
    ) -> ItemsView[str, Any]:
        """No variables: passwords, keys and messages are among them."""
        return dict[str, Any]().items()


class Reporter(ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return SafeString(mask(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(mask(super().get_traceback_text()))
