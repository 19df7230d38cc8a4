"""Collectives read off HLO that was written by hand, in the forms that XLA's backends write."""

import textwrap

import pytest

from singsong_jax.training.collectives import Collective, collectives


def found(hlo, mesh, nodes=None):
  return collectives(textwrap.dedent(hlo), mesh, nodes)


def entry(*instructions):
  body = "\n".join(f"  {line}" for line in instructions)
  return f"ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"


GROUPS_BY_AXIS = {
  "explicit": ("{{0,1,2,3},{4,5,6,7}}", "{{0,4},{1,5},{2,6},{3,7}}"),
  "iota": ("[2,4]<=[8]", "[4,2]<=[2,4]T(1,0)"),
  "mesh": ("mesh['a'=2,'b'=4] {'b'}", "mesh['a'=2,'b'=4] {'a'}"),
  "part of an axis": ("mesh['a'=8] {'a':(2)4}", "mesh['a'=8] {'a':(1)2}"),
  "mesh in another order": (
    "mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
    "mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}",
  ),
}


@pytest.mark.parametrize("form", GROUPS_BY_AXIS)
def test_axes_by_replica_groups(form):
  mesh = {"data": 2, "fsdp": 4, "model": 1}
  for groups, axis, size in zip(GROUPS_BY_AXIS[form], ("fsdp", "data"), (4, 2)):
    hlo = entry(
      f"ROOT %x = f32[10,10]{{1,0}} all-gather(%p), channel_id=1, replica_groups={groups}, dimensions={{0}}"
    )
    (gather,) = found(hlo, mesh)
    assert gather == Collective("all-gather", (axis,), 1, 400, 400 * (size - 1) / size, 0.0)


def test_all_devices_and_groups_that_are_not_understood():
  mesh = {"data": 2, "fsdp": 2}
  hlo = entry(
    "%x = f32[] all-reduce(%p), channel_id=1, replica_groups={}, to_apply=%add",
    "ROOT %y = f32[] all-reduce(%p), channel_id=2, replica_groups=words, to_apply=%add",
  )
  assert {c.axes for c in found(hlo, mesh)} == {("data", "fsdp"), ()}


def test_bytes_of_every_kind():
  """Of 4 devices; the whole array is what is gathered, reduced, scattered or exchanged."""
  mesh = {"fsdp": 4}
  groups = "replica_groups={{0,1,2,3}}"
  hlo = entry(
    f"%a = (bf16[8,4]{{1,0:T(8,128)(2,1)S(1)}}, /*index=1*/f32[3]{{0}}) all-gather(%p, %q), {groups}",
    f"%b = pred[100]{{0}} all-reduce(%p), channel_id=2, {groups}, to_apply=%add",
    f"%c = s32[5]{{0}} reduce-scatter(%p), channel_id=3, {groups}, dimensions={{0}}, to_apply=%add",
    f"%d = u8[4,10]{{1,0}} all-to-all(%p), channel_id=4, {groups}, dimensions={{0}}",
    "ROOT %e = f8e4m3fn[7]{0} collective-permute(%p), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}",
  )
  sizes = {c.kind: (c.array_bytes, c.sent_bytes) for c in found(hlo, mesh)}
  assert sizes == {
    "all-gather": (64 + 12, 57),
    "all-reduce": (100, 150),
    "reduce-scatter": (80, 60),
    "all-to-all": (40, 30),
    "collective-permute": (7, 7),
  }


def test_a_start_counts_by_its_done():
  """GPUs: the type of a start has the operands too."""
  hlo = entry(
    "%s = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), channel_id=1, replica_groups=[1,4]<=[4]",
    "ROOT %d = f32[8]{0} all-gather-done(%s)",
  )
  (gather,) = found(hlo, {"fsdp": 4})
  assert (gather.count, gather.array_bytes) == (1, 32)


def test_tpu_reduce_scatter_is_an_all_reduce_in_a_fusion_and_a_spread_gather_is_one():
  hlo = """
    %all-reduce-scatter.1 (i: f32[8]) -> f32[2] {
      %r = f32[8]{0} all-reduce(%i), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
      ROOT %s = f32[2]{0} dynamic-slice(%r, %o), dynamic_slice_sizes={2}
    }
    %part_1 (i: f32[8]) -> f32[8] {
      ROOT %g.1 = f32[8]{0} all-gather(%i), channel_id=2, replica_groups={{0,1,2,3}}, dimensions={0}
    }
    %part_2 (i: f32[8]) -> f32[8] {
      ROOT %g.2 = f32[8]{0} all-gather(%i), channel_id=2, replica_groups={{0,1,2,3}}, dimensions={0}
    }
    ENTRY %main (p: f32[8]) -> f32[8] {
      %a = f32[2]{0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
      %b = f32[8]{0} fusion(%p), kind=kCustom, calls=%part_1
      ROOT %c = f32[8]{0} fusion(%b), kind=kCustom, calls=%part_2
    }
  """
  kinds = {c.kind: c.count for c in found(textwrap.dedent(hlo), {"fsdp": 4})}
  assert kinds == {"reduce-scatter": 1, "all-gather": 1}


def loop(attributes="", limit=24, first=0, step=1):
  return f"""\
%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %one = s32[]{{:T(128)}} constant({step})
  %t = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %next = s32[] add(%i, %one)
  %y = f32[8]{{0}} all-reduce(%x), channel_id=7, replica_groups={{{{0,1}}}}, to_apply=%sum
  ROOT %out = (s32[], f32[8]) tuple(%next, %y)
}}
%cond (t: (s32[], f32[8])) -> pred[] {{
  %n = s32[]{{:T(128)}} constant({limit})
  %t = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  ROOT %less = pred[] compare(%i, %n), direction=LT
}}
ENTRY %main (p: f32[8]) -> f32[8] {{
  %zero = s32[] constant({first})
  %init = (s32[], f32[8]) tuple(%zero, %p)
  %w = (s32[], f32[8]) while(%init), condition=%cond, body=%body{attributes}
  ROOT %r = f32[8]{{0}} get-tuple-element(%w), index=1
}}
"""


@pytest.mark.parametrize("text,trips", [
  (loop(), 24),
  (loop(limit=8, step=2), 4),
  (loop(limit=8, first=3, step=2), 3),
  (loop(', backend_config={"known_trip_count":{"n":"5"}}'), 5),
])  # fmt: skip
def test_what_a_loop_contains_counts_as_often_as_it_runs(text, trips):
  (reduce,) = collectives(text, {"data": 2})
  assert (reduce.count, reduce.array_bytes) == (trips, 32 * trips)


def test_loops_in_loops():
  inner = (
    loop(limit=3)
    .replace("ENTRY %main", "%outer_body")
    .replace("%body", "%inner")
    .replace("%cond", "%inner_cond")
  )
  outer = loop(', backend_config={"known_trip_count":{"n":"5"}}').replace("body=%body", "body=%outer_body")
  (reduce,) = collectives(inner + outer, {"data": 2})
  assert reduce.count == 15  # the other body is not called


def test_what_leaves_a_node():
  """Two nodes of 4: a ring of all 8 leaves each node once, those of 2 over the data axis at each step."""
  mesh, nodes = {"data": 2, "fsdp": 4}, [0, 0, 0, 0, 1, 1, 1, 1]
  hlo = lambda groups: entry(
    f"ROOT %x = f32[100] all-reduce(%p), channel_id=1, replica_groups={groups}, to_apply=%a"
  )
  shares = {}
  for groups in ("[1,8]<=[8]", "[2,4]<=[8]", "[4,2]<=[2,4]T(1,0)"):
    (reduce,) = found(hlo(groups), mesh, nodes)
    shares[reduce.axes] = reduce.crossing_bytes / reduce.sent_bytes
  assert shares == {("data", "fsdp"): 2 / 8, ("fsdp",): 0, ("data",): 1}


def test_between_slices():
  """Of TPUs: what is reduced over the network is sent by the host, each device's part by itself."""
  hlo = entry(
    "%s = (f32[1,5]{1,0}, u32[], token[]) send(%p, %token), channel_id=2, is_host_transfer=true, "
    'frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}',
    "ROOT %x = f32[] constant(0)",
  )
  (reduce,) = found(hlo, {"data": 2, "fsdp": 4}, [0, 0, 0, 0, 1, 1, 1, 1])
  assert reduce == Collective("all-reduce", ("data",), 1, 20, 20.0, 20.0)
