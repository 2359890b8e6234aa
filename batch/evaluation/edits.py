"""The edits that turn one sequence into another, and how far two sequences are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Above this many cells (a remainder of 16,384 by 16,384) a difference is taken as one edit: about 64 MB of bits.
MOST_CELLS = 1 << 28
# A distance alone keeps no matrix, so only time limits it.
MOST_DISTANCE_CELLS = 1 << 32


class Edit(NamedTuple):
    """`source[start:end]` becomes `replacement`."""

    start: int
    end: int
    replacement: tuple[str, ...]


def edits(source: Sequence[str], target: Sequence[str]) -> list[Edit]:
    """The fewest edits from source to target, adjacent ones merged, in order.

    The alignment is the one of least cost under insertion, deletion, substitution and exchange of two neighbours
    (Damerau-Levenshtein, optimal string alignment), found bit-parallel (Hyyrö 2003, "A bit-vector algorithm for
    computing Levenshtein and Damerau edit distances"). Where an insertion or deletion could stand in several places
    it stands in the last one, so that the same change always is the same edit.
    """
    if source == target:
        return []
    begin, source_end, target_end = _trimmed(source, target)
    n, m = source_end - begin, target_end - begin
    if not n or not m or n == m == 1 or n * m > MOST_CELLS:
        found = [(begin, source_end, begin, target_end)]
    else:
        found = _aligned(source[begin:source_end], target[begin:target_end], begin)
    return _settled(source, [Edit(s, e, tuple(target[ts:te])) for s, e, ts, te in found])


def levenshtein(a: str, b: str) -> int:
    """The Levenshtein distance in characters (bit-parallel, Myers 1999).

    Of texts that differ over more than about 65,000 by 65,000 characters it is an upper bound.
    """
    if a == b:
        return 0
    begin, a_end, b_end = _trimmed(a, b)
    n, m = a_end - begin, b_end - begin
    if not n or not m or n * m > MOST_DISTANCE_CELLS:
        return max(n, m)
    if n == m == 1:
        return 1
    masks: dict[str, int] = {}
    for i in range(begin, a_end):
        masks[a[i]] = masks.get(a[i], 0) | 1 << (i - begin)
    full, top = (1 << n) - 1, 1 << (n - 1)
    vp, vn, distance = full, 0, n
    for j in range(begin, b_end):
        pm = masks.get(b[j], 0)
        d0 = (((pm & vp) + vp) ^ vp) | pm | vn
        hp = vn | ~(d0 | vp) & full
        hn = d0 & vp
        if hp & top:
            distance += 1
        elif hn & top:
            distance -= 1
        hp = hp << 1 | 1
        vp = (hn << 1 | ~(d0 | hp)) & full
        vn = hp & d0 & full
    return distance


def _trimmed(a: Sequence[str], b: Sequence[str]) -> tuple[int, int, int]:
    """Where what the two do not share at their ends begins (in both), and ends in each."""
    a_end, b_end = len(a), len(b)
    shorter = min(a_end, b_end)
    begin = 0
    while begin < shorter and a[begin] == b[begin]:
        begin += 1
    while a_end > begin and b_end > begin and a[a_end - 1] == b[b_end - 1]:
        a_end -= 1
        b_end -= 1
    return begin, a_end, b_end


def _aligned(a: Sequence[str], b: Sequence[str], offset: int) -> list[tuple[int, int, int, int]]:
    """The changed ranges (a start, a end, b start, b end) in order, each moved by the offset."""
    d0s, vps = _matrix(a, b)
    i, j = len(a), len(b)
    found: list[tuple[int, int, int, int]] = []
    open_at: tuple[int, int] | None = None  # where the changed range being walked ends
    while i or j:
        if i and j and a[i - 1] == b[j - 1]:
            if open_at:
                found.append((i + offset, open_at[0] + offset, j + offset, open_at[1] + offset))
                open_at = None
            i, j = i - 1, j - 1
            continue
        open_at = open_at or (i, j)
        if i and j:
            bit = 1 << (i - 1)
            same = bool(d0s[j] & bit)  # no dearer than the cell before, diagonally
            swapped = i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]
            if swapped and same != bool(d0s[j - 1] & (bit >> 1)):
                i, j = i - 2, j - 2
            elif not same:
                i, j = i - 1, j - 1
            elif vps[j] & bit:
                i -= 1
            else:
                j -= 1
        elif i:
            i = 0
        else:
            j = 0
    if open_at:
        found.append((offset, open_at[0] + offset, offset, open_at[1] + offset))
    found.reverse()
    return found


def _matrix(a: Sequence[str], b: Sequence[str]) -> tuple[list[int], list[int]]:
    """The cost matrix as its differences, one bit a cell of `a` and one number a column of `b`.

    First where a cell costs no more than the one diagonally before it, second where it costs one more than the one
    above it.
    """
    masks: dict[str, int] = {}
    for i, item in enumerate(a):
        masks[item] = masks.get(item, 0) | 1 << i
    full = (1 << len(a)) - 1
    vp, vn, d0, before = full, 0, 0, 0
    d0s, vps = [0], [full]
    for item in b:
        pm = masks.get(item, 0)
        exchange = (~d0 & pm) << 1 & before
        d0 = ((((pm & vp) + vp) ^ vp) | pm | vn | exchange) & full
        hp = vn | ~(d0 | vp) & full
        hn = d0 & vp
        hp = hp << 1 | 1
        vp = (hn << 1 | ~(d0 | hp)) & full
        vn = hp & d0
        before = pm
        d0s.append(d0)
        vps.append(vp)
    return d0s, vps


def _settled(source: Sequence[str], found: list[Edit]) -> list[Edit]:
    """Insertions and deletions moved to the last place they can stand in without touching the next edit."""
    following = len(source) + 1
    for at in range(len(found) - 1, -1, -1):
        start, end, replacement = found[at]
        if start == end:
            turns = 0
            while start + 1 < following and start < len(source) and source[start] == replacement[turns]:
                start += 1
                turns = (turns + 1) % len(replacement)
            found[at] = Edit(start, start, replacement[turns:] + replacement[:turns])
        elif not replacement:
            while end + 1 < following and end < len(source) and source[start] == source[end]:
                start, end = start + 1, end + 1
            found[at] = Edit(start, end, ())
        following = found[at].start
    return found
