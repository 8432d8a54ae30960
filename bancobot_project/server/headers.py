"""The headers that protect every answer of the service."""

from collections.abc import Sequence

from django.conf import settings

Headers = Sequence[tuple[bytes, bytes]]

# An answer to a program is no page. In a browser it may load and run nothing.
NOTHING = b"default-src 'none'; frame-ancestors 'none'"
# Only the admin's own files, and no scripts or styles inside its pages.
ADMIN = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# What browsers heed in pages alone. Scripts and styles go without: a first visit loads thirty of them.
OF_PAGES = (
    (b"x-frame-options", b"DENY"),  # for browsers without frame-ancestors
    (b"referrer-policy", b"same-origin"),  # Django compares the Referer of the admin's forms
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    # For what pages load without CORS, such as images or scripts. It stops no page that CORS allows.
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
WHAT_PAGES_HEED = {b"content-security-policy", *(name for name, _ in OF_PAGES)}
SCRIPTS_AND_STYLES = (b"text/javascript", b"text/css")


def protection(*, admin: bool, https: bool) -> Headers:
    """The headers to add to an answer; names in lower case."""
    policy = (b"content-security-policy", ADMIN if admin else NOTHING)
    return (*ALWAYS, *OF_PAGES, policy, *(strict_transport() if https else ()))


def strict_transport() -> Headers:
    """The same header as Django's middleware writes."""
    parts = [f"max-age={settings.SECURE_HSTS_SECONDS}"]
    parts += ["includeSubDomains"] if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else []
    parts += ["preload"] if settings.SECURE_HSTS_PRELOAD else []
    return ((b"strict-transport-security", "; ".join(parts).encode()),) if settings.SECURE_HSTS_SECONDS else ()


class Protection:
    """Completes the headers of answers. A header that a view has set stays."""

    def __init__(self) -> None:
        kinds = [(admin, https) for admin in (True, False) for https in (True, False)]
        self._of = {(admin, https): protection(admin=admin, https=https) for admin, https in kinds}

    def complete(self, headers: Headers, path: str, scheme: str) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _ in headers}
        if path.startswith("/static/") and is_loaded_by_pages(headers):
            present |= WHAT_PAGES_HEED
        wanted = self._of[path.startswith("/admin"), scheme == "https"]
        return [*headers, *(pair for pair in wanted if pair[0] not in present)]


def is_loaded_by_pages(headers: Headers) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(SCRIPTS_AND_STYLES) for name, value in headers)
