"""What pages of single records in the admin have in common."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse


class PageWithMore(admin.ModelAdmin):
    """A record's page whose template shows more than the record's fields."""

    def more(self, request: HttpRequest, record: Any) -> dict[str, Any]:
        """For the template's context. There is no `record` (None) while one is added."""
        raise NotImplementedError

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        context.update(self.more(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)
