"""Intervals and tests by known answers and identities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterxl.evaluation.metrics import get_metric
from adapterxl.report.resample import RESAMPLES, Block, resample
from adapterxl.report.statistics import Estimate, Sample, difference, estimate, holm, mean_of, together


def sampled(right: np.ndarray, ids: tuple[str, ...] | None = None) -> Sample:
    """A sample of accuracy from (seeds, examples) of right and wrong."""
    right = np.asarray(right, dtype=float)
    ids = ids or tuple(f"{place:05d}" for place in range(right.shape[1]))
    (draws,) = resample([Block(get_metric("accuracy"), ids, np.stack([right, np.ones_like(right)], axis=2))])
    return Sample(dict(enumerate(right.mean(axis=1).tolist())), draws)


def test_holm_is_that_worked_out_by_hand():
    # sorted .005 .01 .03 .04, times 4 3 2 1 = .02 .03 .06 .04; the last may not fall below the one before
    family = [Estimate(0.0, p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    assert [one.adjusted for one in holm(family)] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_passes_over_what_was_not_tested_and_never_exceeds_one():
    found = holm([None, Estimate(0.0, p=0.9), Estimate(0.0), Estimate(0.0, p=0.8)])
    assert found[0] is None and found[2].adjusted is None and found[2].shown is None
    assert [found[1].adjusted, found[3].adjusted] == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_is_shown_below_five_percent_and_not_at_it():
    assert Estimate(0.0, adjusted=0.0499).shown is True
    assert Estimate(0.0, adjusted=0.05).shown is False


def test_one_seed_has_the_binomial_interval_of_its_examples():
    right = np.arange(400) < 240
    found = estimate(sampled(right[None]))
    half = 1.96 * (0.6 * 0.4 / 400) ** 0.5
    assert found.mean == 0.6 and found.std is None
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.006)


def test_seeds_that_differ_widen_the_interval_to_that_of_student():
    values = np.array([0.4, 0.5, 0.6])
    draws = np.repeat(values[None], RESAMPLES, axis=0)  # examples that explain nothing
    found = estimate(Sample(dict(enumerate(values.tolist())), draws))
    half = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.002)


def test_without_predictions_the_interval_is_student_over_seeds():
    found = estimate(Sample({1: 0.50, 2: 0.52, 3: 0.54}))
    half = stats.t.ppf(0.975, 2) * 0.02 / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.52 - half, 0.52 + half))


def test_without_predictions_one_seed_or_equal_seeds_have_no_interval():
    for values in ({1: 0.5}, {1: 0.5, 2: 0.5}):
        found = estimate(Sample(values))
        assert found.low is None and found.high is None
    assert difference(Sample({1: 0.5}), Sample({1: 0.4})).p is None


def test_nothing_gives_nothing():
    assert estimate(None) is None and estimate(Sample({})) is None
    assert difference(Sample({1: 0.5}), None) is None and mean_of([]) is None and mean_of([None]) is None


def test_an_interval_stays_between_zero_and_one():
    found = estimate(Sample({1: 0.01, 2: 0.9}))
    assert (found.low, found.high) == (0.0, 1.0)
    assert difference(Sample({1: 0.1, 2: 0.9}), Sample({1: 0.5, 2: 0.1})).low == -1.0


def test_equal_models_have_p_one_and_no_difference():
    generator = np.random.default_rng(0)
    one = sampled(generator.random((3, 200)) < 0.6)
    found = difference(one, one)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert holm([found])[0].shown is False


def test_a_clear_effect_is_shown_with_the_smallest_p():
    generator = np.random.default_rng(0)
    base = generator.random((1, 500)) < 0.5
    better = base | (generator.random((1, 500)) < 0.5)
    found = difference(sampled(better), sampled(base))
    assert found.p == pytest.approx(2 / (RESAMPLES + 1))
    assert found.low > 0.2 and holm([found])[0].shown is True


def test_pairing_by_example_narrows_the_interval_of_like_models():
    generator = np.random.default_rng(0)
    base = generator.random((1, 400)) < 0.6
    better = base | (generator.random((1, 400)) < 0.05)
    paired = difference(sampled(better), sampled(base))
    others = tuple(f"x{place}" for place in range(400))
    unpaired = difference(sampled(better, others), sampled(base))
    assert paired.mean == unpaired.mean
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_different_seeds_give_a_mean_without_interval_or_test():
    found = difference(Sample({1: 0.5, 2: 0.7}), Sample({3: 0.5}))
    assert found.mean == pytest.approx(0.1) and (found.std, found.low, found.p) == (None, None, None)


def test_a_mean_over_languages_of_the_same_sentences_gains_nothing_and_over_others_it_does():
    generator = np.random.default_rng(0)
    right = generator.random((1, 300)) < 0.5
    own = [sampled(generator.random((1, 300)) < 0.5, tuple(f"{k}:{i}" for i in range(300))) for k in range(4)]

    def width(sample: Sample | None) -> float:
        found = estimate(sample)
        return found.high - found.low

    alone = width(sampled(right))
    assert width(mean_of([sampled(right)] * 4)) == pytest.approx(alone)  # four copies are one test set
    assert width(mean_of(own)) == pytest.approx(alone / 2, rel=0.15)


def test_means_need_the_same_seeds_and_lose_their_draws_where_one_has_none():
    with_draws = sampled(np.eye(2))
    assert mean_of([with_draws, Sample({5: 0.5})]) is None
    together = mean_of([with_draws, Sample({0: 1.0, 1: 0.0})])
    assert together.draws is None and together.by_seed == {0: 0.75, 1: 0.25}


def test_resamples_are_the_same_each_time_and_do_not_depend_on_what_else_is_resampled():
    counts = np.stack([np.arange(20.0) % 2, np.ones(20)], axis=1)[None]
    ids = tuple(map(str, range(20)))
    metric = get_metric("accuracy")
    (alone,) = resample([Block(metric, ids, counts)])
    beside = resample([Block(metric, ("a", "b"), np.ones((3, 2, 2))), Block(metric, ids, counts)])
    np.testing.assert_array_equal(alone, beside[1])
    assert alone.shape == (RESAMPLES, 1) and beside[0].shape == (RESAMPLES, 3)
    assert resample([]) == []


def test_a_ratio_is_resampled_as_a_ratio_of_sums():
    # token accuracy: ten sentences of 9 words all right, ten of 1 word wrong; a mean of sentences would be 0.5
    counts = np.array([[[9.0, 9.0], [0.0, 1.0]] * 10])
    (draws,) = resample([Block(get_metric("token_accuracy"), tuple(map(str, range(20))), counts)])
    assert np.median(draws) == pytest.approx(0.9, abs=0.01) and draws.max() <= 1.0
    # a of one kind and b of the other are in a sample: 9 a of 9 a + b words are right
    possible = {9 * a / (9 * a + b) for a in range(40) for b in range(40) if a + b}
    assert all(min(abs(value - one) for one in possible) < 1e-12 for value in draws[:50, 0])


def test_samples_are_those_of_drawing_with_replacement():
    right = np.random.default_rng(0).random((1, 1500)) < 0.3
    draws = sampled(right).draws
    share = right.mean()
    assert draws.mean() == pytest.approx(share, abs=0.002)
    assert draws.std() == pytest.approx((share * (1 - share) / 1500) ** 0.5, rel=0.05)


def test_translations_named_by_file_and_line_are_drawn_together_and_their_mean_gains_little():
    generator = np.random.default_rng(0)
    hard = generator.random(300)
    rights = [(hard + generator.random(300) < 1.0)[None] for _ in range(4)]  # what is hard is so in every language
    named = [tuple(f"dev-{name}.tsv:{line}" for line in range(300)) for name in ("ar", "de", "sw", "zh")]
    whole = estimate(mean_of(map(sampled, rights, named)))
    exact = estimate(Sample({0: np.mean(rights)}, sampled(np.mean(rights, axis=0), tuple(map(str, range(300)))).draws))
    assert (whole.low, whole.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    apart = [tuple(f"{name}{line}" for line in range(300)) for name in ("ar", "de", "sw", "zh")]
    narrow = estimate(mean_of(map(sampled, rights, apart)))
    assert narrow.high - narrow.low < 0.8 * (whole.high - whole.low)


def test_what_two_languages_share_is_drawn_together_though_one_lacks_the_rest():
    right = np.arange(200) % 3 > 0
    few = [place for place in range(200) if place % 10]
    whole = sampled(right[None], tuple(f"de:{place}" for place in range(200)))
    part = sampled(right[None, few], tuple(f"sw:{place}" for place in few))
    assert np.corrcoef(whole.draws[:, 0], part.draws[:, 0])[0, 1] > 0.9


def test_languages_of_a_composition_share_one_variance_between_seeds():
    still, moved = (np.repeat(np.array([values]), RESAMPLES, axis=0) for values in ([0.5, 0.5], [0.4, 0.6]))
    found = [estimate(Sample({1: a, 2: b}, draws)) for (a, b), draws in (((0.5, 0.5), still), ((0.4, 0.6), moved))]
    assert found[0].low == found[0].high == 0.5
    alike = together([*found, None, Estimate(0.3)])
    assert alike[0].low == alike[1].low < 0.5 < alike[0].high == alike[1].high
    assert alike[2:] == [None, Estimate(0.3)]
