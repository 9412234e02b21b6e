"""How a process comes to each crash point, and dies there: scenarios for workers, and for APIs with their clients."""

from tests.chaos.deaths import apis, workers

TABLES = (workers.WORKERS, apis.APIS)
