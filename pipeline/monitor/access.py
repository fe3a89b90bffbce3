"""Who may see the page: everybody on this machine, or whoever has the token."""

import hashlib
import hmac
import ipaddress
import os
from pathlib import Path

from starlette.datastructures import URL, Headers, QueryParams
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.options import ConfigError

TOKEN_VARIABLE = "HUSHWORD_MONITOR_TOKEN"  # noqa: S105  its name
MIN_TOKEN_LENGTH = 16
COOKIE = "hushword-monitor"
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")

# Nothing from elsewhere, nothing inline, nothing framed, nothing sent on.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(host: str, file: Path | None) -> str | None:
    """Give the token from a file or from the environment; None where none is given and none is needed.

    Raises:
        ConfigError: none is given and others than this machine could look; or it cannot be read, or is too short.

    """
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the token file {file} cannot be read: {error}") from error
        source = f"the token in {file}"
    else:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        source = f"the token in {TOKEN_VARIABLE}"
        if not token:
            if is_loopback(host):
                return None
            raise ConfigError(
                f"a page that listens on {host} can be seen by others: give a token with --token-file or in"
                f" {TOKEN_VARIABLE}, or listen on 127.0.0.1"
            )
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigError(f"{source} has {len(token)} characters: it takes at least {MIN_TOKEN_LENGTH}")
    return token


class Access:
    """ASGI middleware: sets the headers on every answer, and lets in who may.

    Without a token only requests that name this machine as their host are answered, so that a page of elsewhere cannot
    reach in through a name of its own. With one, `Authorization: Bearer` opens everything; `/?token=` opens it once and
    leaves a cookie, made from the token but not the token.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app if token else TrustedHostMiddleware(app, LOOPBACK_NAMES, www_redirect=False)
        self._token = token
        self._cookie = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest() if token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"], *((k.lower().encode(), v.encode()) for k, v in HEADERS.items())
                ]  # fmt: skip
            await send(message)

        app = self._app if scope["type"] != "http" or self._may(scope) else self._refusal(scope)
        await app(scope, receive, send_with_headers)

    def _may(self, scope: Scope) -> bool:
        if self._token is None:
            return True
        headers = Headers(scope=scope)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self._token):
            return True
        return _same(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""), self._cookie)

    def _refusal(self, scope: Scope) -> Response:
        assert self._token is not None
        given = QueryParams(scope["query_string"]).get("token", "")
        if scope["path"] != "/" or not _same(given, self._token):
            return PlainTextResponse(
                "This page needs its token: open it once as /?token=..., or send Authorization: Bearer ...\n",
                status_code=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        answer = RedirectResponse("/", status_code=303)  # so that the token leaves the address
        secure = URL(scope=scope).scheme == "https"
        # Not strict: then it would not come along when a link from elsewhere led here. All that it opens is to look.
        answer.set_cookie(COOKIE, self._cookie, httponly=True, samesite="lax", secure=secure)
        return answer


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
