import pickle

import pytest

from twophase.link.errors import ArtifactError, InputError, LinkError, PackageError, VerificationError

EXAMPLES = (
    InputError("snr", "be START:STOP", "20:"),
    ArtifactError("'tx.onnx' is missing"),
    PackageError("the package 'commpy' is not scikit-commpy"),
    VerificationError("the bundle", ["one", "two"]),
)

each = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def test_input_errors_name_argument_rule_and_value():
    error = EXAMPLES[0]
    assert str(error) == "'snr' must be START:STOP, not '20:'"
    assert (error.name, error.rule, error.value) == ("snr", "be START:STOP", "20:")
    assert isinstance(error, ValueError)


def test_verification_errors_list_every_failure():
    error = EXAMPLES[3]
    assert str(error) == "the bundle failed 2 check(s):\n  - one\n  - two"
    assert error.problems == ("one", "two")


@each
def test_all_are_of_one_tree_and_bad_input_exits_2_and_a_failed_proof_1(error):
    assert isinstance(error, LinkError)
    assert error.exit_status == (1 if isinstance(error, VerificationError) else 2)


@each
def test_errors_survive_the_way_back_from_a_worker_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
