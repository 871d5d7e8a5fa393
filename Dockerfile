# Mosquitto with pep. docker-compose.yml shows it at work.

FROM debian:bookworm-slim AS build
WORKDIR /src
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh run
COPY . .
RUN cmake --preset release -DCMAKE_INSTALL_PREFIX=/usr && \
    cmake --build --preset release && \
    DESTDIR=/out cmake --install build/release

FROM debian:bookworm-slim
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      mosquitto mosquitto-clients libsodium23 libcbor0.8 libconfig9 libcjson1 libsqlite3-0 libpq5 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /out /
COPY docker/mosquitto.conf /etc/mosquitto/mosquitto.conf
# Whether COPY keeps owners and modes depends on the builder, and the state is for the broker alone.
RUN install -d -o mosquitto -g mosquitto /var/lib/mosquitto && \
    install -d -o mosquitto -g mosquitto -m 700 /var/lib/mosquitto/pep
USER mosquitto
# What was seen must outlive the container: else what was accepted before could be sent once more.
VOLUME /var/lib/mosquitto
EXPOSE 1883
# Only a broker that has pep loaded publishes this counter (not with sys_interval 0).
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s \
  CMD ["mosquitto_sub", "-t", "$SYS/broker/pep/messages/accepted", "-C", "1", "-W", "3"]
CMD ["mosquitto", "-c", "/etc/mosquitto/mosquitto.conf"]
