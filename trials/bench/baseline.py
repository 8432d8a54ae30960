"""What most chat back ends look like, to compare with: FastAPI, sessions in a dict, one shared httpx.AsyncClient.

It stores nothing. Where a choice had to be made it is in the baseline's favour: one client for all requests instead
of one per request, a time-out that turns no slowness into errors, and the pool that httpx copes with best. It walks all
its connections at every request: with its default cap of 100, a thousand waiting turns bring it to a stop; without a
limit on idle connections it is several times slower there than with its default of 20.
"""

import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

Conversation = list[dict[str, str]]

sessions: dict[str, Conversation] = {}
COMPLETIONS = f"{os.environ['OPENROUTER_BASE_URL']}/chat/completions"

# httpcore looks for sniffio several times per request. Where it is not installed, as here, the search through the file
# system takes a quarter of the baseline's time; this answers it at once.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # None is how Python is told that there is none


class ChatRequest(BaseModel):
    message: str
    model: str | None = None
    temperature: float = 0.7
    max_tokens: int = 1000
    session_id: str | None = None


class Fill(BaseModel):
    session_ids: list[str]
    conversation: Conversation


class ChatResponse(BaseModel):
    response: str
    model_used: str
    session_id: str
    tokens_used: int
    timestamp: datetime


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    headers = {"Authorization": f"Bearer {os.environ['OPENROUTER_API_KEY']}"}
    async with httpx.AsyncClient(limits=limits, timeout=600, headers=headers) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, object]:
    return {"status": "ok", "messages": sum(len(conversation) for conversation in sessions.values())}


@app.post("/fill")
async def fill(wanted: Fill) -> dict[str, object]:
    """Only for the benchmark: sessions with earlier conversations."""
    for session_id in wanted.session_ids:
        sessions[session_id] = list(wanted.conversation)
    return {}


@app.post("/chat")
async def chat(request: ChatRequest) -> ChatResponse:
    session_id = request.session_id or str(uuid.uuid4())
    conversation = sessions.setdefault(session_id, [])
    conversation.append({"role": "user", "content": request.message})
    completion = await complete(request, conversation)
    text = completion["choices"][0]["message"]["content"]
    conversation.append({"role": "assistant", "content": text})
    return ChatResponse(
        response=text,
        model_used=completion["model"],
        session_id=session_id,
        tokens_used=completion["usage"]["total_tokens"],
        timestamp=datetime.now(UTC),
    )


@app.post("/chat/stream")
async def chat_stream(request: ChatRequest) -> StreamingResponse:
    session_id = request.session_id or str(uuid.uuid4())
    conversation = sessions.setdefault(session_id, [])
    conversation.append({"role": "user", "content": request.message})
    return StreamingResponse(stream(request, session_id, conversation), media_type="text/event-stream")


async def stream(request: ChatRequest, session_id: str, conversation: Conversation) -> AsyncIterator[str]:
    text = ""
    asked = {**payload(request, conversation), "stream": True}
    client: httpx.AsyncClient = app.state.client
    async with client.stream("POST", COMPLETIONS, json=asked) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            choices = json.loads(line.removeprefix("data: "))["choices"]
            if choices and (piece := choices[0]["delta"].get("content")):
                text += piece
                yield event("delta", text=piece)
    conversation.append({"role": "assistant", "content": text})
    yield event("done", response=text, session_id=session_id)


def event(name: str, **data: str) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


async def complete(request: ChatRequest, conversation: Conversation) -> dict[str, Any]:
    client: httpx.AsyncClient = app.state.client
    answer = await client.post(COMPLETIONS, json=payload(request, conversation))
    if answer.status_code != httpx.codes.OK:
        raise HTTPException(502, answer.text)
    completion: dict[str, Any] = answer.json()
    return completion


def payload(request: ChatRequest, conversation: Conversation) -> dict[str, Any]:
    return {
        "model": request.model or os.environ["OPENROUTER_DEFAULT_MODEL"],
        "messages": conversation,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
