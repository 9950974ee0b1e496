"""What is counted, and that it can be seen from the beginning."""

from __future__ import annotations

from receiver import errors
from receiver.errors import OUTCOMES, EmbeddedError, GatewayError, ReceiverError, SettingsError, SmnError

#: What answers lookups, or nobody: the service does not start.
NOT_OF_CALLBACKS = {EmbeddedError, GatewayError, SettingsError, SmnError}


def test_each_error_that_can_answer_a_callback_is_an_outcome():
    """A new one that is forgotten would be born at 1, and its alert would miss it."""
    declared = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ReceiverError)}
    assert set(OUTCOMES) == {"ok"} | {error.code for error in declared - NOT_OF_CALLBACKS}
    assert len(OUTCOMES) == len(set(OUTCOMES))
