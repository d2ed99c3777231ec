# One image for every process of the hub: `docker run taskhub engine`, `worker`, `delivery` ... (see docker-compose.yml).
FROM python:3.11-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY hub ./hub
COPY schemas ./schemas
COPY subscribers ./subscribers
RUN pip install --no-cache-dir . \
    && useradd --create-home --uid 10001 hub \
    && install -d -o hub -g hub /data

USER hub
WORKDIR /data
VOLUME /data
ENTRYPOINT ["hub"]
CMD ["--help"]
