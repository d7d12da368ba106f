"""`/openapi.json` and `/docs`: what there is, for machines and for people. The page loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.openai.schemas import schemas

__all__ = ["mount"]

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font: 0.95em ui-monospace, monospace }
section { border-top: 1px solid #8884; padding: 0.75rem 0 }
h2 { font-size: 1rem; margin: 0 } h2 b { display: inline-block; min-width: 4rem }
table { border-collapse: collapse; font-size: 0.9rem; margin-top: 0.5rem }
td { padding: 0.1rem 1rem 0.1rem 0; vertical-align: top }
"""


_MAY_FAIL: Final = {"4XX": {"description": "Refused"}, "5XX": {"description": "Failed"}}


def mount(app: FastAPI) -> None:
    """Adds both; what is mounted later is on them as well."""

    @cache
    def described() -> dict[str, Any]:
        page = app.openapi()
        page.setdefault("components", {}).setdefault("schemas", {}).update(schemas())
        for methods in page["paths"].values():
            for route in methods.values():  # every door may refuse and fail, in a shape of its own
                route["responses"] = {**_MAY_FAIL, **route["responses"]}
        return page

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(described())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(
            "".join(_page(described())),
            headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )


def _page(described: dict[str, Any]) -> Iterator[str]:
    info = described["info"]
    title = escape(f"{info['title']} {info['version']}")
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    yield "<meta name=viewport content='width=device-width, initial-scale=1'>"
    yield f"<style>{_STYLE}</style><h1>{title}</h1><p>{escape(info.get('summary', ''))} "
    yield "For machines: <a href=/openapi.json>openapi.json</a>.</p>"
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            yield f"<section><h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
            yield f"<p>{escape(route.get('summary', ''))}</p>"
            yield from _headers(route)
            yield from _fields(described, route)
            yield "</section>"
    yield "</html>"


def _headers(route: dict[str, Any]) -> Iterator[str]:
    for header in route.get("parameters", ()):
        if header["in"] == "header":
            yield f"<p>Header <code>{escape(header['name'])}</code>: {escape(header['description'])}</p>"


def _fields(described: dict[str, Any], route: dict[str, Any]) -> Iterator[str]:
    content = route.get("requestBody", {}).get("content", {})
    ref = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    schema = described["components"]["schemas"].get(ref.rpartition("/")[2])
    if schema is None:
        return
    yield "<table>"
    for name, field in schema["properties"].items():
        must = " (required)" if name in schema.get("required", ()) else ""
        yield f"<tr><td><code>{escape(name)}</code>{must}</td><td>{escape(_kind(field))}</td></tr>"
    yield "</table>"


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"] if one.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))
