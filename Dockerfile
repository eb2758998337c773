# One image for worker and API; the command names the process. Versions and hashes come from deploy/*.lock.
# No Java: an image talks to a cluster. Only `stockweave up` without one needs it.

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY deploy/build.lock deploy/build.lock
RUN pip install --no-cache-dir --require-hashes -r deploy/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY inventory inventory
COPY state state
COPY connectors connectors
COPY streams streams
COPY api api
COPY stockweave stockweave
RUN python -m hatchling build -t wheel

FROM python:3.11-slim-bookworm AS environment
RUN python -m venv /opt/stockweave
COPY deploy/runtime.lock /tmp/runtime.lock
RUN /opt/stockweave/bin/pip install --no-cache-dir --require-hashes -r /tmp/runtime.lock
COPY --from=wheel /src/dist /tmp/dist
RUN /opt/stockweave/bin/pip install --no-cache-dir --no-index --no-deps /tmp/dist/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin stockweave \
    && install --directory --owner stockweave --group stockweave /var/lib/stockweave
COPY --from=environment /opt/stockweave /opt/stockweave
ENV PATH=/opt/stockweave/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STOCKWEAVE_DATA_DIR=/var/lib/stockweave
WORKDIR /var/lib/stockweave
USER 10001:10001
VOLUME /var/lib/stockweave
ENTRYPOINT ["stockweave"]
CMD ["--help"]
