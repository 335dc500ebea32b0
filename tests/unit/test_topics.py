"""Topics are built and parsed in one place, and names cannot bring wildcards in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.topics import NAME, SampleTopic, Topics, site_of

SITE = Topics("escalon", "site-a")
DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("built", "topic"),
    [
        (SITE.samples("meter", "cam-01"), "escalon/site-a/meter/samples/cam-01"),
        (SITE.samples("meter"), "escalon/site-a/meter/samples/+"),
        (SITE.predictions("meter", "cam-01"), "escalon/site-a/meter/predictions/cam-01"),
        (SITE.errors("meter", "cam-01"), "escalon/site-a/meter/errors/cam-01"),
        (SITE.escalations("meter", "tier1-a"), "escalon/site-a/meter/escalations/tier1-a"),
        (SITE.replies("meter", "tier1-a"), "escalon/site-a/meter/replies/tier1-a"),
        (SITE.telemetry("tier2-a"), "escalon/site-a/telemetry/tier2-a"),
        (SITE.telemetry_acks("tier2-a"), "escalon/site-a/telemetry-acks/tier2-a"),
        (SITE.state("tier1-a"), "escalon/site-a/nodes/tier1-a/state"),
        (SITE.info("tier1-a"), "escalon/site-a/nodes/tier1-a/info"),
        (SITE.updates("tier1-a", "c"), "escalon/site-a/nodes/tier1-a/updates/c"),
        (SITE.releases("c"), "escalon/site-a/releases/c"),
        (SITE.blob(DIGEST, 3), f"escalon/site-a/blobs/{DIGEST}/3"),
    ],
    ids=lambda value: value.split("/", 2)[-1],
)
def test_a_topic_is_the_one_that_the_design_names(built: str, topic: str) -> None:
    assert built == topic


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 999_999))
def test_a_chunks_topic_is_parsed_back(digest: str, index: int) -> None:
    assert SITE.blob_chunk(SITE.blob(digest, index)) == (digest, index)


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param(Topics("escalon", "site-b").blob(DIGEST, 0), id="another-site"),
        pytest.param(Topics("other", "site-a").blob(DIGEST, 0), id="another-prefix"),
        pytest.param(SITE.blob(DIGEST[:-1], 0), id="short-digest"),
        pytest.param(SITE.blob(DIGEST.upper(), 0), id="upper-case-digest"),
        pytest.param(SITE.blob(DIGEST, -1), id="negative-index"),
        pytest.param(SITE.blob(DIGEST, 0) + "/1", id="one-level-more"),
        pytest.param(f"{DIGEST}/0", id="no-head"),
        pytest.param(SITE.blob(DIGEST, 0).replace("/0", "/1234567"), id="index-too-long"),
        pytest.param(SITE.releases("c"), id="a-release"),
    ],
)
def test_what_is_no_chunk_of_this_site_is_none(topic: str) -> None:
    assert SITE.blob_chunk(topic) is None


@pytest.mark.parametrize(
    "name", ["a/+", "a/#", "a/$SYS", "a/", "a/.hidden", "a/ä", "a/b c", "a/" + "x" * 65]
)
def test_a_level_that_is_no_name_is_no_sensor(name: str) -> None:
    assert SampleTopic("a/{sensor}").sensor(name) is None


def test_the_last_level_of_a_pipelines_own_topic_is_the_sensor() -> None:
    template = SampleTopic(SITE.samples("meter", "{sensor}"))
    assert template.sensor(SITE.samples("meter", "cam-01")) == "cam-01"


@given(st.text(max_size=70))
def test_a_name_never_holds_a_wildcard_a_separator_or_a_dollar(text: str) -> None:
    if NAME.fullmatch(text):
        assert not set(text) & set("+#/$\0 \n")
        assert 1 <= len(text) <= 64


def test_the_site_is_the_second_level() -> None:
    assert site_of("escalon/site-a/telemetry/tier2-a") == "site-a"


@pytest.mark.parametrize("topic", ["escalon", "escalon/site-a", "escalon/+/x", "escalon//x", ""])
def test_a_topic_without_a_site_has_none(topic: str) -> None:
    assert site_of(topic) is None


@pytest.mark.parametrize(
    ("template", "topic", "sensor"),
    [
        ("plant/line-1/{sensor}/vibration", "plant/line-1/motor-3/vibration", "motor-3"),
        ("{sensor}", "motor-3", "motor-3"),
        ("plant/+/{sensor}", "plant/anything/motor-3", "motor-3"),
        ("plant/{sensor}", "plant/motor-3/more", None),
        ("plant/{sensor}/x", "plant/motor-3/y", None),
        ("plant/{sensor}", "plant/$SYS", None),
        ("plant/{sensor}", "plant/", None),
    ],
)
def test_a_template_finds_the_sensor_in_a_topic(
    template: str, topic: str, sensor: str | None
) -> None:
    assert SampleTopic(template).sensor(topic) == sensor


def test_a_templates_filter_is_for_all_sensors_or_for_one() -> None:
    template = SampleTopic("plant/{sensor}/x")
    assert template.problem() is None
    assert template.filter() == "plant/+/x"
    assert template.filter("motor-3") == "plant/motor-3/x"


@pytest.mark.parametrize(
    "template",
    ["plant/x", "{sensor}/{sensor}", "a{sensor}", "$SYS/{sensor}", "plant/#/{sensor}", "/{sensor}"],
)
def test_a_template_that_cannot_be_subscribed_to_is_named(template: str) -> None:
    assert SampleTopic(template).problem() is not None
