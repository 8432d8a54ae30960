"""Every setting, read from the environment (or `.env`) here and nowhere else. docs/settings.md describes each."""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from bancobot_project.configuration import way_out
from bancobot_project.configuration.environment import Environment
from bancobot_project.configuration.secret_key import check_production, private_key
from bancobot_project.database import address
from web import addresses, logs
from web.redaction import hide

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(BASE_DIR / ".env")

VERSION = "0.1.0"
MAX_WORKERS = 64


# The installation
ENVIRONMENT = env.choice("ENVIRONMENT", "development", ("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.boolean("DEBUG", False)
DATA_DIR = env.folder("DATA_DIR", BASE_DIR / "var")
SECRET_KEY = env.text("SECRET_KEY")
if PRODUCTION:
    check_production(SECRET_KEY, debug=DEBUG)
SECRET_KEY = SECRET_KEY or private_key(DATA_DIR)
hide(SECRET_KEY)
OWNER_HASH_KEY = env.text("OWNER_HASH_KEY", SECRET_KEY)

# Who may call, and how much; a client's own limits override these
ACCESS_MODE = env.choice("ACCESS_MODE", "keys" if PRODUCTION else "open", ("open", "keys", "byok", "keys+byok"))
OWNER_REQUESTS_PER_MINUTE = env.integer("OWNER_REQUESTS_PER_MINUTE", 0, 0, 1_000_000)
OWNER_TURNS_IN_FLIGHT = env.integer("OWNER_TURNS_IN_FLIGHT", 0, 0, 1_000_000)
OWNER_TOKENS_PER_DAY = env.integer("OWNER_TOKENS_PER_DAY", 0, 0, 1_000_000_000_000)
OWNER_COST_PER_MONTH = env.amount("OWNER_COST_PER_MONTH", most=1_000_000)
OWNER_SESSIONS = env.integer("OWNER_SESSIONS", 0, 0, 1_000_000_000)
OWNER_STORED_MB = env.integer("OWNER_STORED_MB", 0, 0, 1_000_000_000)
# Anybody can make up a provider's key, and store under it whatever the provider thinks of it.
BYOK_SESSIONS = OWNER_SESSIONS if env.is_set("OWNER_SESSIONS") else 10_000
BYOK_STORED_MB = OWNER_STORED_MB if env.is_set("OWNER_STORED_MB") else 500
ADDRESS_REQUESTS_PER_MINUTE = env.integer("ADDRESS_REQUESTS_PER_MINUTE", 0, 0, 1_000_000)
AUDIT_RETENTION_DAYS = env.integer("AUDIT_RETENTION_DAYS", 1825, 1, 36_500)
ADMIN_LOGIN_TRIES = env.integer("ADMIN_LOGIN_TRIES", 5, 1, 1000)
ADMIN_LOGIN_TRIES_PER_ADDRESS = env.integer("ADMIN_LOGIN_TRIES_PER_ADDRESS", 20, 1, 100_000)
ADMIN_LOGIN_LOCKOUT_MINUTES = env.integer("ADMIN_LOGIN_LOCKOUT_MINUTES", 15, 1, 1440)
ADMIN_SESSION_HOURS = env.hours("ADMIN_SESSION_HOURS", 8, low=0.1)

# The server
HOST = env.host("HOST", "127.0.0.1")
HOST_IS_INHERITED = env.is_inherited("HOST")
PORT = env.integer("PORT", 8000, 0, 65535)
WORKERS = env.integer("WORKERS", 1, 1, MAX_WORKERS)
os.environ.pop("WEB_CONCURRENCY", None)  # gunicorn would read it, and trace where it is no number
GRACEFUL_TIMEOUT = env.integer("GRACEFUL_TIMEOUT", 30, 0, 3600)
KEEP_ALIVE_SECONDS = env.integer("KEEP_ALIVE_SECONDS", 75, 1, 3600)  # above the 60 of nginx and of AWS's balancers
ALLOW_OPEN_ACCESS = env.boolean("ALLOW_OPEN_ACCESS", False)
# Only named hosts, in development too: a page that rebinds its DNS name to 127.0.0.1 must not reach an open service.
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
if "*" in ALLOWED_HOSTS and ACCESS_MODE == "open" and not ALLOW_OPEN_ACCESS:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS must name its hosts, not *, where ACCESS_MODE=open asks nobody for a key."
    )
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", domains=True)
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
TRUSTED_PROXIES = env.listing("TRUSTED_PROXIES", [])
addresses.networks("TRUSTED_PROXIES", TRUSTED_PROXIES)  # an invalid one stops the start
HTTPS = env.boolean("HTTPS", PRODUCTION)
BASE_PATH = env.base_path("BASE_PATH")
FORCE_SCRIPT_NAME = BASE_PATH or None  # Django makes addresses with it; server/base_path.py reads them
HSTS_SECONDS = env.integer("HSTS_SECONDS", 31_536_000, 0, 315_360_000)
HSTS_INCLUDE_SUBDOMAINS = env.boolean("HSTS_INCLUDE_SUBDOMAINS", False)
HSTS_PRELOAD = env.boolean("HSTS_PRELOAD", False)
if HSTS_PRELOAD and not (HSTS_INCLUDE_SUBDOMAINS and HSTS_SECONDS >= 31_536_000):
    raise ImproperlyConfigured(
        "HSTS_PRELOAD needs HSTS_INCLUDE_SUBDOMAINS=true and HSTS_SECONDS of a year (31536000) or more: the lists of "
        "browsers take no other domain."
    )
MAX_BODY_BYTES = env.integer("MAX_BODY_BYTES", 1024 * 1024, 1024, 100 * 1024 * 1024)
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = env.choice("LOG_FORMAT", "json" if PRODUCTION else "console", ("json", "console"))
LOGGING = logs.configuration(LOG_LEVEL, LOG_FORMAT)

# The conversations
MAX_MESSAGE_CHARS = env.integer("MAX_MESSAGE_CHARS", 100_000, 1, 10_000_000)
MAX_TOKENS_DEFAULT = env.integer("MAX_TOKENS_DEFAULT", 1000, 1, 10_000_000)
HISTORY_MAX_MESSAGES = env.integer("HISTORY_MAX_MESSAGES", 100, 2, 10_000)
DEFAULT_CONTEXT_LENGTH = env.integer("DEFAULT_CONTEXT_LENGTH", 32_768, 256, 100_000_000)
SESSION_BUSY_WAIT_SECONDS = env.seconds("SESSION_BUSY_WAIT_SECONDS", 30, 0, 3600)
SESSION_CLEANUP_HOURS = env.hours_if_set("SESSION_CLEANUP_HOURS", low=0.01)
SESSION_CLOSED_RETENTION_HOURS = env.hours("SESSION_CLOSED_RETENTION_HOURS", 720)
TURN_LEASE_SECONDS = env.seconds("TURN_LEASE_SECONDS", 15, 3, 3600)
MAX_TURNS_IN_FLIGHT = env.integer("MAX_TURNS_IN_FLIGHT", 3000, 1, 100_000)
IDEMPOTENCY_HOURS = env.hours("IDEMPOTENCY_HOURS", 24, low=0.01)
TURN_DEADLINE_SECONDS = env.seconds("TURN_DEADLINE_SECONDS", 300, 1, 86_400)
AUTO_TITLE = env.boolean("AUTO_TITLE", False)
AUTO_TITLE_MODEL = env.text("AUTO_TITLE_MODEL")
CHAT_SYSTEM_PROMPT = env.text("CHAT_SYSTEM_PROMPT")
BANCOBOT_SYSTEM_PROMPT = env.text_or_none(
    "BANCOBOT_SYSTEM_PROMPT",
    "Você é o BancoBot, o assistente virtual de um banco brasileiro. Responda em português do Brasil, com clareza e "
    "cordialidade, sobre contas, cartões, Pix, tarifas, empréstimos e investimentos. O seu conhecimento é limitado: "
    "você não vê os dados do cliente nem executa operações. Quando não souber, diga que não sabe e indique os canais "
    "de atendimento do banco; nunca invente valores, prazos ou políticas. Nunca peça senhas, códigos de segurança ou "
    "números completos de cartão, e avise o cliente se ele os enviar.",
)

# The provider
OPENROUTER_API_KEY = env.key("OPENROUTER_API_KEY")
OPENROUTER_BASE_URL = env.url("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")
OPENROUTER_DEFAULT_MODEL = env.text("OPENROUTER_DEFAULT_MODEL", "anthropic/claude-3.5-sonnet")
OPENAI_API_KEY = env.key("OPENAI_API_KEY")
OPENAI_BASE_URL = env.url("OPENAI_BASE_URL", "https://api.openai.com/v1")
OPENAI_DEFAULT_MODEL = env.text("OPENAI_DEFAULT_MODEL", "gpt-4o-mini")
LLM_PROVIDER = env.choice("LLM_PROVIDER", "", ("", "openrouter", "openai", "demo"))
if not LLM_PROVIDER:
    LLM_PROVIDER = "openrouter" if OPENROUTER_API_KEY else "openai" if OPENAI_API_KEY else "demo"
UPSTREAM_CONNECT_SECONDS = env.seconds("UPSTREAM_CONNECT_SECONDS", 5, 0.1, 600)
UPSTREAM_WRITE_SECONDS = env.seconds("UPSTREAM_WRITE_SECONDS", 10, 0.1, 600)
UPSTREAM_READ_SECONDS = env.seconds("UPSTREAM_READ_SECONDS", 60, 0.1, 3600)
UPSTREAM_PROXY = env.text("UPSTREAM_PROXY")
way_out.check_authorities()  # bad ones stop the start, whichever provider is used
MODELS_CACHE_SECONDS = env.seconds("MODELS_CACHE_SECONDS", 600, 0, 86_400)
MAX_TOKENS_PARAMETER = env.choice("MAX_TOKENS_PARAMETER", "", ("", "max_tokens", "max_completion_tokens", "none"))
LEAVE_OUT_PARAMETERS = env.choices(
    "LEAVE_OUT_PARAMETERS", ("max_tokens", "temperature", "stream", "stream_options", "session_id", "plugins")
)
EXTRA_PARAMETERS = env.parameters(
    "EXTRA_PARAMETERS",
    (
        "model",
        "messages",
        "stream",
        "stream_options",
        "temperature",
        "max_tokens",
        "max_completion_tokens",
        "session_id",
    ),
)
SYSTEM_ROLE = env.choice("SYSTEM_ROLE", "system", ("system", "developer", "user"))
MAX_FALLBACK_MODELS = 5
MODEL_FALLBACKS = env.model_lists("MODEL_FALLBACKS", MAX_FALLBACK_MODELS)
PROVIDERS: dict[str, dict[str, Any]] = {
    "openrouter": {
        "base_url": OPENROUTER_BASE_URL,
        "proxy": way_out.proxy_for(OPENROUTER_BASE_URL, UPSTREAM_PROXY),
        "api_key": OPENROUTER_API_KEY,
        "default_model": OPENROUTER_DEFAULT_MODEL,
        "connect_timeout": UPSTREAM_CONNECT_SECONDS,
        "write_timeout": UPSTREAM_WRITE_SECONDS,
        "read_timeout": UPSTREAM_READ_SECONDS,
        "max_tokens_parameter": MAX_TOKENS_PARAMETER,
        "leave_out": LEAVE_OUT_PARAMETERS,
        "extra_parameters": EXTRA_PARAMETERS,
        "system_role": SYSTEM_ROLE,
    },
    "openai": {
        "base_url": OPENAI_BASE_URL,
        "proxy": way_out.proxy_for(OPENAI_BASE_URL, UPSTREAM_PROXY),
        "api_key": OPENAI_API_KEY,
        "default_model": OPENAI_DEFAULT_MODEL,
        "connect_timeout": UPSTREAM_CONNECT_SECONDS,
        "write_timeout": UPSTREAM_WRITE_SECONDS,
        "read_timeout": UPSTREAM_READ_SECONDS,
        "max_tokens_parameter": MAX_TOKENS_PARAMETER,
        "leave_out": LEAVE_OUT_PARAMETERS,
        "extra_parameters": EXTRA_PARAMETERS,
        "system_role": SYSTEM_ROLE,
    },
    "demo": {},
}

# The database. A writer thread keeps one connection; synchronous views borrow theirs for a request.
DATABASE_POOL_SIZE = env.integer("DATABASE_POOL_SIZE", 6, 2, 100)
DATABASE_PREPARED_STATEMENTS = env.choice("DATABASE_PREPARED_STATEMENTS", "auto", ("auto", "true", "false"))
DATABASES: dict[str, dict[str, Any]] = {
    "default": address.database(env.text("DATABASE_URL"), BASE_DIR, DATA_DIR / "bancobot.sqlite3")
}
if DATABASES["default"]["ENGINE"] == address.SQLITE:
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # a lock upgrade in the middle of a transaction ignores the busy timeout
        "timeout": 10,  # seconds to wait for the write lock
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; "
        "PRAGMA secure_delete=ON; PRAGMA cache_size=-16000; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"] |= {
        # The writer repeats a few statements: prepared once, they cost less.
        "server_side_binding": True,
        "prepare_threshold": None if DATABASE_PREPARED_STATEMENTS == "false" else 5,
        "pool": {
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            "timeout": 2,  # seconds to wait for a connection: the database is down, or very busy
            # After a failure the pool tries again after longer and longer pauses, up to minutes, and would not notice
            # that the database is back. After so many seconds it gives up, and the next request tries at once.
            "reconnect_timeout": 1,
        },
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "access",
    "sessions_api",
    "chat",
    "bancobot_project",
]

# The middleware before chat/: nothing that makes Django hop to a thread for every request (see server/application.py).
TURN_MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
]
MIDDLEWARE = [
    *TURN_MIDDLEWARE,
    "bancobot_project.server.static.StaticFiles",  # server/headers.py protects them
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "bancobot_project.urls"
LOOP_URLCONF = "bancobot_project.loop_urls"  # requests that stay on the event loop (server/application.py)
ASGI_APPLICATION = "bancobot_project.asgi.application"
# What serves the application: gunicorn, or on Windows, where it can't run, uvicorn. Only the chosen one is imported.
SERVERS = {name: f"bancobot_project.server.http.{name}.serve" for name in ("gunicorn", "uvicorn")}
DEFAULT_SERVER = "uvicorn" if sys.platform == "win32" else "gunicorn"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# Languages: Brazilian Portuguese first, English second
LANGUAGE_CODE = "pt-br"
LANGUAGES = [("pt-br", _("Brazilian Portuguese")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = f"{BASE_PATH}/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
SERVESTATIC_ROOT = BASE_DIR / "static" / "root"  # /favicon.ico, a fixed name for browsers
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = False

# The browser's protections; some need HTTPS
SECURE_SSL_REDIRECT = HTTPS
# A redirected POST loses its body: only the admin's pages are redirected.
SECURE_REDIRECT_EXEMPT = [rf"^(?!{BASE_PATH}/admin)".replace("/", "", 1)]
SECURE_HSTS_SECONDS = HSTS_SECONDS if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HSTS_INCLUDE_SUBDOMAINS
SECURE_HSTS_PRELOAD = HSTS_PRELOAD
# They ask for the two above, which bind the whole domain for years: only its owner knows whether all of it has HTTPS.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# __Host-: browsers accept such a cookie only by HTTPS from this host, not from a neighbour of the same domain, and only
# for all its paths. Under a path it is __Secure-, and named by the path: a service above it has cookies of its own.
COOKIES = ("__Secure-" if BASE_PATH else "__Host-") if HTTPS else ""
COOKIES += "bancobot" + BASE_PATH.replace("/", ".")
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = f"{COOKIES}_sessionid", f"{COOKIES}_csrftoken"
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = LANGUAGE_COOKIE_PATH = BASE_PATH or "/"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # no cookie beside these, for every path
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "bancobot_project.error_pages.csrf_failure"
SESSION_COOKIE_AGE = round(ADMIN_SESSION_HOURS * 3600)  # from the login on
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
DEFAULT_EXCEPTION_REPORTER = "bancobot_project.debug_pages.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "bancobot_project.debug_pages.Filter"
X_FRAME_OPTIONS = "DENY"
APPEND_SLASH = False  # both forms are routed; the admin has its own redirects
# Django's limit covers the admin's forms; application.py applies MAX_BODY_BYTES to everything, before parsing.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# Pages on this machine may call an open service. A service that asks for keys admits only the named origins.
CORS_ALLOWED_ORIGIN_REGEXES = [r"^http://(localhost|127\.0\.0\.1)(:\d+)?$"] if ACCESS_MODE == "open" else []
CORS_EXPOSE_HEADERS = [
    "X-Request-ID", "Retry-After", "Idempotent-Replayed", "X-History-Omitted",
    "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
]  # fmt: skip
CORS_ALLOW_HEADERS = [
    "accept", "authorization", "x-api-key", "content-type", "x-request-id", "idempotency-key", "last-event-id",
    "accept-language",
]  # fmt: skip

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["access.authentication.CallerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["access.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["web.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "web.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}

# The published document and its pages. Endpoints are described beside their views; web/openapi.py has what they share
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "BancoBot API",
    "VERSION": VERSION,
    "DESCRIPTION": "Conversations with language models: every message and every reply is kept.",
    "TAGS": [
        {
            "name": "Turns",
            "description": "Conversas: a message goes in, the model's reply comes back, and both are kept.",
        },
        {"name": "Sessions", "description": "Sessões: what has been said so far."},
        {"name": "Models", "description": "Modelos: who can reply."},
        {"name": "Service", "description": "Serviço: whether all is well."},
    ],
    "SCHEMA_PATH_PREFIX": "/",
    "SERVERS": [{"url": BASE_PATH}] if BASE_PATH else [],
    "RENDERER_WHITELIST": ["rest_framework.renderers.JSONRenderer"],  # streams and files are described as what they are
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "SORT_OPERATIONS": False,
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "ErrorCode": "access.schema.ERROR_CODES",
        "TurnStatus": "sessions_api.api.serializers.TURN_STATUSES",
        "Role": "sessions_api.api.serializers.ROLES",
        "Rating": "sessions_api.api.serializers.RATINGS",
        "HealthStatus": "bancobot_project.health.STATUSES",
        "AccessMode": "access.schema.ACCESS_MODES",
        "Limit": "access.schema.LIMITS",
        "RemovedStatus": ["success"],
    },
    "PREPROCESSING_HOOKS": ["web.openapi.arrange"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "web.openapi.complete",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "displayRequestDuration": True, "validatorUrl": None},
    "REDOC_DIST": "SIDECAR",
}

NOTES = env.notes()  # after all have been read; `serve` logs them
