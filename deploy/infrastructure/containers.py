"""Kafka and PostgreSQL in Docker, for tests that ask for it."""

import time

from deploy.infrastructure.kafka import VERSION, is_broker
from deploy.infrastructure.postgres import MAJOR
from deploy.infrastructure.processes import InfrastructureError, free_port

START_SECONDS = 120


def docker_answers() -> bool:
    """Whether there is a Docker daemon; a client alone is not enough. Takes 3 seconds at most."""
    try:
        import docker  # type: ignore[import-untyped]
        import testcontainers  # noqa: F401

        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:  # whatever is wrong with it, it is not there
        return False


class DockerPostgres:
    """A PostgreSQL server in a container; its data end with it."""

    def start(self) -> str:
        """Return a superuser's DSN."""
        from testcontainers.postgres import PostgresContainer

        self._container = PostgresContainer(f"postgres:{MAJOR}", username="postgres", password="postgres", driver=None)  # noqa: S106
        self._container.with_command("postgres -c max_connections=200 -c fsync=off")
        self._container.start()
        return str(self._container.get_connection_url())

    def stop(self) -> None:
        self._container.stop()


class DockerKafka:
    """A Kafka broker in a container; its data end with it."""

    def start(self) -> str:
        """Return the bootstrap servers."""
        from testcontainers.core.container import DockerContainer

        # Clients are told the address that they shall use, so it must be known before the start.
        port = free_port()
        environment = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE": "LogAppendTime",
        }
        self._container = DockerContainer(f"apache/kafka:{VERSION}").with_envs(**environment)
        self._container.with_bind_ports(9092, port)
        self._container.start()
        end = time.monotonic() + START_SECONDS
        while not is_broker(port):
            if time.monotonic() > end:
                self._container.stop()
                raise InfrastructureError(f"Kafka in Docker is not ready after {START_SECONDS} s")
            time.sleep(0.1)
        return f"127.0.0.1:{port}"

    def stop(self) -> None:
        self._container.stop()
