"""Clients and their keys in the admin."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Max, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from access import audit, clients
from access.admin_site import site
from access.callers import usual_limits
from access.clients import Operator
from access.models import Client, Key, Scope, usual_scopes
from web.modeladmin import PageWithMore

MAX_KEYS_SHOWN = 50  # the newest, on their client's page


def operator(request: HttpRequest) -> Operator:
    return Operator(audit.staff(request), audit.address_of(request))


def scopes_explained() -> list[tuple[str, Any]]:
    return [(scope.value, format_html("<code>{}</code>: {}", scope.value, scope.label)) for scope in Scope]


class ClientForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"), choices=scopes_explained, widget=forms.CheckboxSelectMultiple, required=False,
        initial=usual_scopes,
        help_text=_("What its keys may do. A change counts within a second, also for keys that are in use."),
    )  # fmt: skip

    class Meta:
        model = Client
        fields = clients.FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, usual in usual_limits()._asdict().items():
            if name in self.fields:  # read-only users have no form fields
                said = _("Empty: as the setting %(name)s says (now %(value)s). 0: no limit.")
                shown = usual or _("no limit")
                self.fields[name].help_text = said % {"name": f"OWNER_{name.upper()}", "value": shown}


@admin.register(Client, site=site)
class ClientAdmin(PageWithMore):
    """Clients can't be deleted: their sessions and the audit log name them. Make a client inactive instead."""

    form = ClientForm
    list_display = ["name", "contact", "is_active", "scopes_shown", "usable_keys", "last_used"]
    list_filter = ["is_active"]
    search_fields = ["name", "contact", "client_id"]
    list_per_page = list_max_show_all = 100
    readonly_fields = ["owner", "created_at"]
    fieldsets = [
        (None, {"fields": ["name", "contact", "notes", "is_active", "owner", "created_at"]}),
        (_("What it may do"), {"fields": ["scopes"]}),
        (_("Limits"), {"fields": clients.LIMITS}),
    ]

    class Media:
        css = {"all": ["access/admin.css"]}

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        listed: QuerySet[Client] = super().get_queryset(request)
        usable = Count("keys", filter=clients.state_filter("usable", "keys__"))
        return listed.annotate(usable_keys=usable, last_used=Max("keys__last_used_at"))

    @admin.display(description=_("scopes"))
    def scopes_shown(self, client: Client) -> str:
        return ", ".join(client.scopes) or "-"

    @admin.display(description=_("usable keys"), ordering="usable_keys")
    def usable_keys(self, client: Any) -> int:
        return int(client.usable_keys)

    @admin.display(description=_("last used"), ordering="last_used")
    def last_used(self, client: Any) -> Any:
        return client.last_used

    @admin.display(description=_("owner of its sessions"))
    def owner(self, client: Client) -> str:
        return client.owner if client.pk else "-"

    def save_model(self, request: HttpRequest, obj: Client, form: Any, change: bool) -> None:
        (clients.change if change else clients.create)(obj, operator(request))

    def more(self, request: HttpRequest, record: Client | None) -> dict[str, Any]:
        if record is None:
            return {}
        keys = clients.keys_of(record, include_unusable=True)[:MAX_KEYS_SHOWN]
        return {
            "uses": clients.use_of(record),
            "keys": [(key, clients.STATES[clients.state_of(key)]) for key in keys],
            "may": {verb: request.user.has_perm(f"access.{verb}_key") for verb in ("add", "change", "view")},
        }


class KeyForm(forms.ModelForm):
    class Meta:
        model = Key
        fields = ("client", "label", "expires_at")

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment and moment <= timezone.now():
            raise ValidationError(_("That is over."))
        return moment


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, clients.STATES[name]) for name in ("usable", "expired", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Key]) -> QuerySet[Key]:
        chosen = self.value()
        return queryset.filter(clients.state_filter(chosen)) if chosen in dict(self.lookup_choices) else queryset


@admin.register(Key, site=site)
class KeyAdmin(PageWithMore):
    """Keys are added and revoked. Adding needs the permission to add keys; revoking, the one to change them."""

    form = KeyForm
    list_display = ["shown", "client", "label", "created_at", "expires_at", "last_used_at", "state"]
    list_filter = [StateFilter, "client"]
    list_select_related = ["client"]
    search_fields = ["identifier", "label", "client__name"]
    search_help_text = _("Key (its identifier is enough: no secret should be in an address), label or client")
    list_per_page = list_max_show_all = 100
    add_fields = ["client", "label", "expires_at"]

    fields = ["shown", "client", "label", "created_at", "expires_at", "last_used_at", "revoked_at", "state"]
    readonly_fields = ["shown", "created_at", "last_used_at", "revoked_at", "state"]

    class Media:
        css = {"all": ["access/admin.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return any(request.user.has_perm(f"access.{verb}_key") for verb in ("view", "change"))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("access.change_key")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else self.add_fields

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Key], search_term: str
    ) -> tuple[QuerySet[Key], bool]:
        """Find a key by its identifier, its displayed name, or the full key."""
        identifier = clients.identifier_in(search_term)
        if identifier and (named := queryset.filter(identifier=identifier)):
            return named, False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description=_("key"), ordering="identifier")
    def shown(self, key: Key) -> str:
        return str(key)

    @admin.display(description=_("state"))
    def state(self, key: Key) -> Any:
        return clients.STATES[clients.state_of(key)]

    # Adding: only the answer to the form has the full key, no message, session or log

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        key, obj.whole = clients.new_key(obj.client, operator(request), obj.label, obj.expires_at)
        obj.pk, obj.identifier = key.pk, key.identifier

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._page(request, "created", obj, title=_("The new key"), whole=obj.whole)

    # Revoking: GET asks for confirmation, POST revokes

    def revoke_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        key = Key.objects.select_related("client").filter(pk=object_id).first()
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        if key is None:
            raise Http404
        if request.method != "POST":
            return self._page(request, "revoke", key, title=_("Revoke a key"))
        if clients.revoke(key, operator(request)):
            self.log_change(request, key, str(_("Revoked")))
            self.message_user(request, _("%s was revoked.") % key, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:access_client_change", args=[key.client_id]))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<int:object_id>/revoke/", view, name="access_key_revoke"), *super().get_urls()]

    def more(self, request: HttpRequest, record: Key | None) -> dict[str, Any]:
        revocable = record is not None and record.revoked_at is None
        return {"can_revoke": revocable and self.has_revoke_permission(request)}

    def _page(self, request: HttpRequest, name: str, key: Key, **more: Any) -> HttpResponse:
        request.current_app = self.admin_site.name  # as in Django's own pages
        context = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media, "key": key, **more}
        return TemplateResponse(request, f"admin/access/key/{name}.html", context)
