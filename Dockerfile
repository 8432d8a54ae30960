# docker build -t bancobot . && docker run -p 127.0.0.1:8000:8000 -v bancobot:/data \
#   -e SECRET_KEY=... -e HTTPS=false bancobot
# Callers need a key: docker exec CONTAINER python manage.py create_client NAME --key. compose.yaml adds PostgreSQL.
FROM python:3.13-slim AS builder
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home bancobot && install -d -o bancobot -g bancobot -m 700 /data
COPY --from=builder /venv /venv
WORKDIR /app
COPY manage.py ./
COPY bancobot_project ./bancobot_project
COPY web ./web
COPY access ./access
COPY sessions_api ./sessions_api
COPY chat ./chat
COPY templates ./templates
COPY static ./static
COPY locale ./locale
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    DATA_DIR=/data \
    DATABASE_URL=sqlite:////data/bancobot.sqlite3
RUN python -m compileall -q /app
USER bancobot
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# http.client asks the service itself, whatever proxy the environment names, and by a name that ALLOWED_HOSTS admits.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["python", "-c", "import os, urllib.request; \
urllib.request.urlopen('http://127.0.0.1:' + (os.environ.get('PORT') or '8000') + '/health', timeout=5)"]
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]
