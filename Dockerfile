# syntax=docker/dockerfile:1
# The image of the scaled form: web, worker and migrate are the same image with another command.

FROM node:22-bookworm-slim AS web
WORKDIR /src/web
COPY web/package.json web/package-lock.json web/.npmrc* ./
RUN npm ci --no-audit --no-fund
COPY web ./
RUN mkdir -p /src/api/static && npm run build

FROM python:3.11-slim-bookworm AS packages
ENV UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUAL_ENV=/opt/switchboard
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
# Everything is checked against the lock's hashes: the installer itself, the build backend, and of the locked packages
# those that the project needs at run time.
RUN python -m venv "$VIRTUAL_ENV" && python -m venv /opt/tool \
    && awk '/^uv==/ {p=1} p {print} p && !/\\$/ {exit}' requirements.lock > /tmp/uv.lock \
    && /opt/tool/bin/pip install --quiet --require-hashes --requirement /tmp/uv.lock \
    && VIRTUAL_ENV=/opt/tool /opt/tool/bin/uv pip install --quiet --require-hashes \
        --constraint requirements.lock "$(sed -n 's/^\(hatchling==[^ ]*\).*/\1/p' requirements.lock)" \
    && /opt/tool/bin/uv pip install --quiet --require-hashes --constraint requirements.lock \
        --requirement pyproject.toml
COPY api ./api
COPY bots ./bots
COPY channels ./channels
COPY crm_core ./crm_core
COPY routing ./routing
COPY switchboard ./switchboard
COPY workers ./workers
COPY --from=web /src/api/static ./api/static
RUN /opt/tool/bin/hatchling build --target wheel --directory /tmp/dist \
    && /opt/tool/bin/uv pip install --quiet --no-deps /tmp/dist/*.whl

FROM python:3.11-slim-bookworm
# tini: Python as process 1 would neither get SIGTERM's default action nor collect orphans.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 switchboard \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/switchboard --create-home --shell /usr/sbin/nologin switchboard \
    && install -d -o switchboard -g switchboard -m 0750 /var/lib/switchboard/files
COPY --from=packages /opt/switchboard /opt/switchboard
ENV PATH=/opt/switchboard/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/switchboard
# 8080: HTTP and WebSocket. 8024: LMTP from the site's mail server.
EXPOSE 8080 8024
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "switchboard"]
CMD ["web"]
