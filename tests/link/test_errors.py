import pickle

import pytest

from twophase.link.errors import ArtifactError, InputError, LinkError, PackageError, VerificationError


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (InputError("snr", "be START:STOP", "20:"), "'snr' must be START:STOP, not '20:'", 2),
        (ArtifactError("'tx.onnx' is missing"), "'tx.onnx' is missing", 2),
        (PackageError("the package 'x' is missing"), "the package 'x' is missing", 2),
        (
            VerificationError("the bundle", ["one", "two"]),
            "the bundle failed 2 check(s):\n  - one\n  - two",
            1,
        ),
    ],
)
def test_errors_name_all_have_a_status_and_survive_the_way_back_from_a_worker_process(error, message, status):
    assert isinstance(error, LinkError)
    assert (str(error), error.exit_status) == (message, status)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), message, vars(error))
