"""The common checks, on every row of the method table and every variant of it."""

import pytest
import torch

import checks
from onebit import methods
from onebit.methods.method import Method

CASES = checks.cases()
every = pytest.mark.parametrize("case", CASES, ids=checks.case_id)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def build(case: checks.Case) -> Method:
    name, options = case
    return methods.create(name, **options)


def test_the_cases_cover_the_table_and_the_variants():
    assert {name for name, _ in CASES} == set(methods.METHODS) - {"float"}
    assert ("rbnn", {"variant": "paper"}) in CASES and ("rbnn", {"variant": "released"}) in CASES
    assert len(CASES) > len(methods.METHODS)


@every
@dtypes
def test_weights(case, dtype):
    checks.check_weights(build(case), dtype)


@every
@dtypes
def test_activations(case, dtype):
    checks.check_activations(build(case), dtype)


@every
@dtypes
def test_evaluation_equals_training(case, dtype):
    checks.check_evaluation(build(case), dtype)


@every
def test_gradients(case):
    checks.check_gradients(build(case))


@every
def test_state(case):
    checks.check_state(build(case))


@every
def test_autocast(case):
    checks.check_autocast(build(case))


@every
def test_training(case):
    checks.check_training_step(build(case))
