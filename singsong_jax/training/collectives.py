"""What a compiled program's devices send each other, read off its HLO.

The HLO is that of one device of an SPMD program. What a loop contains is counted as often as the
loop runs.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

Lines = list[tuple[str, str]]  # instructions of a computation: name, and the text after its `=`
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ITEM_BITS = re.compile(r"[a-z]+(\d+)")
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)")
_COLLECTIVE = re.compile(rf"(.*?) ({'|'.join(KINDS)})(-start|-done)?\(([^)]*)\)(.*)")
# Between the slices of a TPU pod the host sends; the slices have done their part before.
_BETWEEN_SLICES = re.compile(r"\((\w+\[[\d,]*\]).* send\(.*_xla_megascale_transfer_type=\"(\w+)\"")
_CALLED = re.compile(r"(\w+)=(?:%?([\w.\-]+)|\{([^{}]*)\})")
_CALLS = {
  "calls",
  "to_apply",
  "body",
  "condition",
  "branch_computations",
  "true_computation",
  "false_computation",
}
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
  """Collectives of a kind along the same axes of the mesh.

  Attributes:
    kind: one of KINDS.
    axes: of the mesh, along which the devices that talk to each other lie; none if it could not be told.
    count: how often they happen in a step.
    array_bytes: of the whole arrays that are gathered, reduced, scattered or exchanged, all together.
    sent_bytes: what a device sends, if rings are used.
    crossing_bytes: how much of `sent_bytes` leaves a node, for each device of it.
  """

  kind: str
  axes: tuple[str, ...]
  count: int
  array_bytes: int
  sent_bytes: float
  crossing_bytes: float


@dataclasses.dataclass(frozen=True)
class _Instruction:
  kind: str
  nbytes: int  # of the whole array
  groups: np.ndarray | None  # places in the mesh, a group a row; of a permutation source and target
  count: int


def collectives(
  hlo: str, mesh_shape: Mapping[str, int], nodes: Sequence[int] | None = None
) -> list[Collective]:
  """The collectives of a step, summed by kind and axes; the most bytes first.

  Args:
    hlo: `jax.stages.Compiled.as_text()`.
    mesh_shape: axis → size, in the mesh's order.
    nodes: for each device of the mesh, flattened, which set of fast links it is on; one set by default.
  """
  size = math.prod(mesh_shape.values())
  where = np.zeros(size, int) if nodes is None else np.asarray(nodes)
  totals: dict[tuple[str, tuple[str, ...]], np.ndarray] = {}
  for found in _instructions(hlo, where):
    groups = np.arange(size)[None] if found.groups is None else found.groups
    axes = () if found.groups is None else _axes(groups, mesh_shape)
    sent = found.nbytes * _share_sent(found.kind, groups.shape[1])
    sums = np.array([1, found.nbytes, sent, sent * _crossing(groups, where)]) * found.count
    totals[found.kind, axes] = totals.get((found.kind, axes), 0) + sums
  summed = [
    Collective(kind, axes, int(count), int(nbytes), float(sent), float(crossing))
    for (kind, axes), (count, nbytes, sent, crossing) in totals.items()
  ]
  return sorted(summed, key=lambda c: -c.array_bytes)


def _share_sent(kind: str, group_size: int) -> float:
  """Of the whole array, what a device of a ring sends."""
  if kind == "collective-permute":
    return 1.0
  return (2.0 if kind == "all-reduce" else 1.0) * (group_size - 1) / group_size


def _crossing(groups: np.ndarray, nodes: np.ndarray) -> float:
  """Of what a device sends, the share that leaves its node: a ring leaves each node of its once."""
  spans = [len(set(nodes[group])) for group in groups]
  widest = groups[int(np.argmax(spans))]
  return max(spans) / len(widest) if max(spans) > 1 else 0.0


def _axes(groups: np.ndarray, mesh_shape: Mapping[str, int]) -> tuple[str, ...]:
  """Axes along which the places in a group differ."""
  places = np.stack(np.unravel_index(groups, tuple(mesh_shape.values())))  # [axes, groups, members]
  differ = (places != places[:, :, :1]).any(axis=(1, 2))
  return tuple(name for name, varies in zip(mesh_shape, differ) if varies)


def _instructions(hlo: str, nodes: np.ndarray) -> Iterator[_Instruction]:
  """Every collective once, though compilers spread one over several fusions: they share a channel."""
  size, computations = len(nodes), _computations(hlo)
  counts = _executions(computations)
  seen: dict[tuple[str, str], _Instruction] = {}
  for computation, lines in computations.items():
    done = _types_of_done(lines)
    for name, text in lines:
      if match := _BETWEEN_SLICES.match(text):
        one_of_each = np.stack([np.flatnonzero(nodes == node) for node in np.unique(nodes)], axis=1)
        kind = match[2].lower().replace("_", "-")
        seen[kind, name] = _Instruction(kind, _bytes(match[1]), one_of_each, counts[computation])
      match = _COLLECTIVE.match(text)
      if match is None or match[3] == "-done" or not counts[computation]:
        continue
      kind, rest = match[2], match[5]
      nbytes = _bytes(done.get(name, match[1]))
      groups = _pairs(rest) if kind == "collective-permute" else _groups(rest, size)
      if kind == "reduce-scatter":
        nbytes *= size if groups is None else groups.shape[1]
      elif kind == "all-reduce" and computation.startswith("all-reduce-scatter"):  # how TPUs' HLO writes it
        kind = "reduce-scatter"
      channel = re.search(r"channel_id=(\d+)", rest)
      instruction = _Instruction(kind, nbytes, groups, counts[computation])
      key = (kind, channel[1] if channel else name)
      if key not in seen or seen[key].count < instruction.count:
        seen[key] = instruction
  yield from (i for i in seen.values() if i.groups is None or i.groups.shape[1] > 1)


def _computations(hlo: str) -> dict[str, Lines]:
  """Name → its instructions, as (name, text after the `=`); called ones before their callers."""
  computations: dict[str, Lines] = {}
  lines: Lines = []
  for line in hlo.splitlines():
    if match := _COMPUTATION.match(line):
      computations[match[1]] = lines = []
    elif match := _INSTRUCTION.match(line):
      lines.append((match[1], match[2]))
  return computations


def _executions(computations: Mapping[str, Lines]) -> dict[str, int]:
  """How often each computation runs in a step; of a conditional every branch is counted."""
  counts = dict.fromkeys(computations, 0)
  counts[next(reversed(counts))] = 1  # the entry comes last
  for computation in reversed(list(computations)):
    lines = computations[computation]
    for _, text in lines:
      called = list(_called(text))
      trips = _trip_count(text, lines, dict(called), computations) if " while(" in text else 1
      for name in {name for _, name in called}:
        if name in counts:
          counts[name] += counts[computation] * trips
  return counts


def _called(text: str) -> Iterator[tuple[str, str]]:
  for attribute, one, several in _CALLED.findall(text):
    if attribute in _CALLS:
      for name in [one] if one else several.split(","):
        yield attribute, name.strip().lstrip("%")


def _trip_count(text: str, lines: Lines, called: Mapping[str, str], computations: Mapping[str, Lines]) -> int:
  """How often a loop runs: what XLA says of it, else what its counter says, else 1.

  A counter is compared with a constant in the condition, and a constant is added to it in the body.
  """
  if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', text):
    return int(known[1])
  condition, body = (dict(computations.get(called.get(name, ""), ())) for name in ("condition", "body"))
  compare = next((t for t in condition.values() if " compare(" in t and "direction=LT" in t), "")
  counter, limit = ([*_operands(compare), "", ""])[:2]
  place = re.search(r"get-tuple-element\(.*index=(\d+)", condition.get(counter, ""))
  last = _constant(condition.get(limit, ""))
  if place is None or last is None:
    return 1
  first = _constant(_element(dict(lines), _operands(text)[0], int(place[1]))) or 0
  added = _element(body, next(reversed(body), ""), int(place[1]))
  steps = [c for name in _operands(added) if (c := _constant(body.get(name, ""))) is not None]
  return max(0, -(-(last - first) // steps[0])) if " add(" in added and steps else last - first


def _element(lines: Mapping[str, str], tuple_name: str, place: int) -> str:
  """The instruction that makes an element of a tuple; '' where that cannot be seen."""
  operands = _operands(lines.get(tuple_name, ""))
  return lines.get(operands[place], "") if place < len(operands) else ""


def _operands(text: str) -> list[str]:
  """Names of an instruction's operands."""
  match = re.search(r" [a-z][a-z\-]*\(([^()]*)\)", text)
  return [part.split()[-1].lstrip("%") for part in match[1].split(",")] if match and match[1].strip() else []


def _constant(text: str) -> int | None:
  match = re.match(r"[su]32\[\]\S* constant\((\d+)\)", text)
  return int(match[1]) if match else None


def _types_of_done(lines: Lines) -> dict[str, str]:
  """Name of a `…-start`, whose own type has the operands too → result type of its `…-done`."""
  types = {}
  for _, text in lines:
    match = _COLLECTIVE.match(text)
    if match and match[3] == "-done":
      types[match[4].split()[-1].lstrip("%")] = match[1]
  return types


def _bytes(types: str) -> int:
  """Of an array's type as HLO writes it, or of a tuple's."""
  total = 0.0
  for item, dimensions in _SHAPE.findall(types):
    bits = 8 if item == "pred" else int(match[1]) if (match := _ITEM_BITS.match(item)) else 0
    total += bits / 8 * math.prod(int(n) for n in dimensions.split(",") if n)
  return int(total)


def _groups(attributes: str, size: int) -> np.ndarray | None:
  """`replica_groups=` in any of its forms as `[groups, members]`; None for one that is not understood."""
  if match := re.search(r"replica_groups=\{(\{[\d,{}]+\})\}", attributes):
    return np.array([_numbers(row) for row in re.findall(r"\{([\d,]+)\}", match[1])])
  if match := re.search(r"replica_groups=\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", attributes):
    return _iota(match[2]).reshape(_numbers(match[1]))
  if match := re.search(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((\[[\d,]+\]T\([\d,]+\))\))? ?\{([^}]*)\}", attributes
  ):
    return _groups_of_axes(match[1], match[2], match[3])
  everyone = "replica_groups=" not in attributes or "replica_groups={}" in attributes
  return np.arange(size)[None] if everyone else None


def _iota(text: str) -> np.ndarray:
  """Of `[2,4]T(1,0)`: 0 … 7 as 2 × 4, transposed."""
  shape, _, order = text.partition("T")
  sizes = _numbers(shape.strip("[]"))
  places = np.arange(math.prod(sizes)).reshape(sizes)
  return places.transpose(_numbers(order.strip("()"))) if order else places


def _numbers(text: str) -> list[int]:
  return [int(n) for n in text.split(",")]


def _groups_of_axes(mesh: str, device_ids: str | None, axes: str) -> np.ndarray | None:
  """Groups along some axes of XLA's own mesh, which need not be ours.

  Args:
    mesh: `'a'=2,'b'=4`.
    device_ids: the devices in this mesh's order, as `_iota` reads it; None if that is 0, 1, ….
    axes: `'b'`; or a part of an axis, `'b':(2)2`, the 2 places that have 2 others to their left.
  """
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
  parts = {n: (int(left or 1), int(part or sizes[n])) for n, left, part in _AXIS.findall(axes)}
  if len(parts) < len(_AXIS.findall(axes)):
    return None  # two parts of one axis
  factors: list[int] = []  # each axis as left × part × right
  chosen: list[int] = []
  for name, size in sizes.items():
    left, part = parts.get(name, (1, size))
    if name in parts:
      chosen.append(len(factors) + 1)
    factors += [left, part, size // (left * part)]
  devices = np.arange(math.prod(factors)) if device_ids is None else _iota(device_ids)
  others = [i for i in range(len(factors)) if i not in chosen]
  members = math.prod(factors[i] for i in chosen)
  return devices.reshape(factors).transpose(others + chosen).reshape(-1, members)


def _pairs(attributes: str) -> np.ndarray | None:
  if match := re.search(r"source_target_pairs=\{(\{[\d,{}]+\})\}", attributes):
    return np.array([_numbers(pair) for pair in re.findall(r"\{([\d,]+)\}", match[1])])
  return None
