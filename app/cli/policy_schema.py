"""`breakeven policy schema`: what editors need to complete and check a policy file while one types."""

from __future__ import annotations

import json

from app.documents.schema import policy_schema


def schema() -> None:
    """Print the JSON Schema of a policy file.

    It ships as policies/policy.schema.json; a file whose first line is `# yaml-language-server:
    $schema=policy.schema.json` is checked by any editor that has the YAML language server.
    """
    print(json.dumps(policy_schema(), indent=2, ensure_ascii=False))
