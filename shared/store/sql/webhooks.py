"""Notifications."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.store.rows import sent_json, to_webhook
from shared.store.sql.batches import Batches, Bound, Statement
from shared.store.statements import webhooks
from shared.store.values import Sent, Webhook


class WebhookVerbs(Batches):
    """Notifications that are due, and what came of them."""

    def claim_webhooks(self, *, limit: int, lease_s: float) -> Sequence[Webhook]:
        """Notifications that are due; nobody else gets them for `lease_s`."""
        rows = self._run([Statement(webhooks.CLAIM, {"limit": limit, "lease": int(lease_s * 1000)})])[0]
        return [to_webhook(row) for row in rows]

    def settle_webhooks(self, sent: Sequence[Sent], *, disabled_s: float) -> None:
        """Write down what came of tries; of those that another worker has taken over nothing is written."""
        params: Bound = {
            "sent": json.dumps([sent_json(one) for one in sent]),
            "disabled": int(disabled_s * 1000),
        }
        steps = (webhooks.TOLD, webhooks.GONE, webhooks.AGAIN, webhooks.DONE)
        self._run([Statement(text, params) for text in steps])
