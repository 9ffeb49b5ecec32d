# Two images from one file:
#   docker build --target service .
#   docker build --target worker [--build-arg ACCELERATOR=cuda|tpu] .

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/meshyard/bin:$PATH
RUN python -m venv /opt/meshyard \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin meshyard \
    && install -d -o meshyard -g meshyard /var/lib/meshyard
ENV MESHYARD_ARTIFACT_ROOT=/var/lib/meshyard/artifacts
WORKDIR /build
COPY constraints/py311.txt constraints/

# The dependencies come apart from the code and from the rest of pyproject.toml, so that only a change of theirs installs them again.
FROM base AS requirements
COPY pyproject.toml docker/requirements.py ./
RUN python requirements.py

FROM base AS wheel
COPY pyproject.toml README.md ./
COPY jobs jobs
COPY service service
COPY worker worker
COPY meshyard meshyard
COPY migrations migrations
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM base AS service
COPY --from=requirements /build/requirements requirements
RUN pip install -c constraints/py311.txt -r requirements/base.txt -r requirements/otel.txt -r requirements/service.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
COPY docker/health.py /opt/meshyard/health.py
WORKDIR /var/lib/meshyard
USER 10001
ENV MESHYARD_HOST=0.0.0.0
EXPOSE 8642
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=12 CMD ["python", "/opt/meshyard/health.py", "service"]
CMD ["meshyard", "serve"]

FROM base AS worker
COPY --from=requirements /build/requirements requirements
ARG ACCELERATOR=
RUN pip install -c constraints/py311.txt -r requirements/base.txt -r requirements/otel.txt -r requirements/worker.txt ${ACCELERATOR:+-r requirements/${ACCELERATOR}.txt}
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
COPY docker/health.py /opt/meshyard/health.py
WORKDIR /var/lib/meshyard
USER 10001
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=12 CMD ["python", "/opt/meshyard/health.py", "worker"]
CMD ["meshyard", "work"]
