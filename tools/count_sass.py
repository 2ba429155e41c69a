"""Counts what a tile costs in the machine code of the mma.sync kernels, pipe by pipe: bounds for cards that are not here.

    count_sass.py NVDISASM [--write] [--verbose]

Counted is the short loop, what a warp runs for a tile that its rows see whole: of all ways round a loop that do a tile's products and
copies, the one of fewest instructions. A cell's ratio is the clocks of the busiest pipe over the clocks of the busiest of three that no
code of this tile can do without: products, exponentials, and fragments and copies through shared memory. The table of
engine/cuda/kernels/mma/README.md is the limit: exit 1 when a loop has grown past it, a ratio is over LIMIT, or registers let fewer blocks
onto a multiprocessor than the kernel is planned for. --write writes the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import re
import sys
from collections import Counter

import build_images
from check_sass import functions

SOURCE = "mma/attention.cu"
README = build_images.KERNELS / "mma/README.md"
MARK = "<!-- tools/count_sass.py --write -->\n"
LIMIT = {
    64: 1.25,
    128: 1.25,
    256: 1.3,
}  # of a ratio, by head_dim; at 256 part of O lies in shared memory, or it would spill
GROWTH = 1.02  # of a loop over the table's


@dataclasses.dataclass(frozen=True)
class Card:
    """Clocks that an instruction of a warp takes on a quarter of a multiprocessor (data sheets: operations a clock)."""

    name: str
    target: str  # of the image it runs
    sm: int
    shared: int  # bytes of a multiprocessor
    block: int  # bytes that a block can have
    byte_product: float  # 16 x 8 x 32
    half_product: float  # 16 x 8 x 16, summed in f32
    fma: float
    alu: float
    mufu: float = 8


CARDS = (
    Card("sm75", "sm_75", 75, 64 << 10, 64 << 10, 16, 16, 2, 2),
    Card("sm80", "sm_80", 80, 164 << 10, 163 << 10, 8, 8, 2, 2),
    Card("sm86", "sm_86", 86, 100 << 10, 99 << 10, 16, 32, 1, 2),
    Card("sm89", "sm_86", 89, 100 << 10, 99 << 10, 16, 32, 1, 2),
    Card("sm120", "sm_120", 120, 100 << 10, 99 << 10, 16, 32, 1, 2),
)
RESERVED = 1024  # bytes of shared memory that the driver takes a block


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A row of variants.def."""

    values: str
    mask: str
    dim: int
    rows: int
    keys: int
    warps: int
    stages: int
    parked: int
    blocks: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"attention_{self.values}_{self.mask}_{self.dim}_{self.rows}x{self.keys}x{self.stages}"

    @property
    def value_bytes(self) -> int:
        return 1 if self.values == "u8" else 2

    @property
    def blocks_of_rows(self) -> int:
        """Of 16, of a warp."""
        return self.rows // self.warps // 16

    @property
    def products(self) -> tuple[int, int]:
        """Of a tile and a warp: of bytes, of f16."""
        scores = self.blocks_of_rows * self.keys // 8 * self.dim // 32
        values = self.blocks_of_rows * self.dim // 8 * self.keys // 16
        return (scores + values // 2, 0) if self.values == "u8" else (scores, values)

    @property
    def exponentials(self) -> int:
        return self.rows // self.warps * self.keys // 32

    @property
    def tile_bytes(self) -> int:
        return self.keys * self.dim * (1 + self.value_bytes)

    @property
    def fragment_bytes(self) -> int:
        """Of a warp: q, and k once for 16 rows, v once."""
        return self.blocks_of_rows * (16 + self.keys) * self.dim + self.keys * self.dim * self.value_bytes

    @property
    def shared_bytes(self) -> int:
        """attention_shared_bytes() of layout.h."""
        tiles = self.rows * self.dim + self.stages * self.tile_bytes
        aside = self.parked * self.warps * 512 + (self.rows - 16 * self.warps) * self.keys * self.value_bytes
        return tiles + 2 * self.dim * 4 + 3 * self.rows * 4 + FACTS + aside

    def fits(self, card: Card) -> int:
        return min(self.blocks, card.shared // (self.shared_bytes + RESERVED))


FACTS = int(re.findall(r"kAttentionFacts = (\d+);", (build_images.ROOT / "engine/cuda/layout.h").read_text())[0])


def kernels() -> list[Kernel]:
    text = (build_images.KERNELS / "mma/variants.def").read_text()
    found = []
    for row in re.findall(r"^CLARY_ATTENTION\((.*)\)", text, re.MULTILINE):
        values, _, mask, *numbers = (field.strip() for field in row.split(","))
        found.append(Kernel(values, mask, *(int(number) for number in numbers)))
    return found


# ---- machine code ------------------------------------------------------------------------------------------------------

PIPES = {
    "tensor": r"IMMA|HMMA",
    "mufu": r"MUFU|I2F|F2I",
    "fma": r"FFMA|FMUL|FADD|IMAD|HFMA2|HADD2|HMUL2",
    "shared": r"LD[A-Z]*|ST[A-Z]*|SHFL|UBLKCP|SYNCS|ATOMS|RED",
    "other": r"U[A-Z]\w*|BRA|B[A-Z]+|NOP|WARPSYNC|DEPBAR|EXIT|CALL|S2R|S2UR|CS2R|ERRBAR|FENCE|CCTL|MEMBAR|VOTEU|R2UR|YIELD",
}


def opcode(line: str) -> str:
    return re.sub(r"^@!?U?P\w+\s+", "", line).split()[0]


def pipe(line: str) -> str:
    name = opcode(line).split(".")[0]
    return next((pipe for pipe, names in PIPES.items() if re.fullmatch(names, name)), "alu")


def wavefronts(line: str) -> int:
    """Clocks of a multiprocessor's shared memory, 128 bytes each, conflicts aside."""
    name = opcode(line)
    if name.startswith("LDSM"):
        return 4 if ".4" in name else 2 if ".2" in name else 1
    if name.startswith(("LDS", "STS", "LDGSTS")):
        return 4 if ".128" in name else 2 if ".64" in name else 1
    return 1 if name.startswith("SHFL") else 0


@dataclasses.dataclass
class Node:
    """A basic block: how far it takes a tile, and where it goes."""

    lines: list[str]
    products: int = 0
    copies: int = 0
    ahead: tuple[int, ...] = ()


def graph(lines: list[str]) -> list[Node]:
    nodes: list[Node] = [Node([])]
    at: dict[str, int] = {}
    for line in lines:
        if line.endswith(":"):
            if nodes[-1].lines:
                nodes.append(Node([]))
            at[line[:-1]] = len(nodes) - 1
        else:
            nodes[-1].lines.append(line)
            if re.match(r"(BRA|EXIT|RET|BRX)", opcode(line)):
                nodes.append(Node([]))
    for i, node in enumerate(nodes):
        node.products = sum(pipe(line) == "tensor" for line in node.lines)
        node.copies = sum(bool(re.match(r"LDGSTS\S*\.128", opcode(line))) for line in node.lines)
        last = node.lines[-1] if node.lines else ""
        ahead = [i + 1] if i + 1 < len(nodes) else []
        if re.match(r"(BRA|EXIT|RET|BRX)", opcode(last) if last else ""):
            if not last.startswith("@") and not opcode(last).startswith("BRA.DIV"):
                ahead = []
            if target := re.search(r"`\((\.L\w+)\)", last):
                ahead.append(at[target[1]])
        node.ahead = tuple(ahead)
    return nodes


def shortest(nodes: list[Node], head: int, products: int, copies: int) -> list[str]:
    """Instructions of the shortest way from `head` back to it with so many products and copies; empty: there is none."""
    start = (head, nodes[head].products, nodes[head].copies)
    best = {start: len(nodes[head].lines)}
    came: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    ahead = [(best[start], start)]
    while ahead:
        cost, state = heapq.heappop(ahead)
        if cost > best[state]:
            continue
        node, done, copied = state
        for to in nodes[node].ahead:
            if to == head:
                if (done, copied) != (products, copies):
                    continue
                path = [state]
                while path[-1] in came:
                    path.append(came[path[-1]])
                return [line for node, *_ in reversed(path) for line in nodes[node].lines]
            new = (to, done + nodes[to].products, copied + nodes[to].copies)
            if new[1] > products or new[2] > copies:
                continue
            if cost + len(nodes[to].lines) < best.get(new, 1 << 30):
                best[new] = cost + len(nodes[to].lines)
                came[new] = state
                heapq.heappush(ahead, (best[new], new))
    return []


def short_loop(lines: list[str], products: int, copies: int) -> list[str]:
    nodes = graph(lines)
    heads = {to for i, node in enumerate(nodes) for to in node.ahead if to <= i}
    found = [loop for head in sorted(heads) if (loop := shortest(nodes, head, products, copies))]
    return min(found, key=len, default=[])


# ---- a cell ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Cell:
    count: Counter[str]
    clocks: dict[str, float]  # by pipe, of a tile of a block
    least: float
    blocks: int  # on a multiprocessor

    @property
    def instructions(self) -> int:
        return sum(self.count.values())

    @property
    def ratio(self) -> float:
        return max(self.clocks.values()) / self.least

    def __str__(self) -> str:
        return f"{self.instructions} / {self.ratio:.2f} / {self.blocks}"


def chosen(card: Card) -> list[Kernel]:
    """find_attention() of attention.cc: the first of its kind that fits as planned, else the first that fits."""
    found: dict[tuple[str, str, int], Kernel] = {}
    for kernel in kernels():
        if kernel.first <= card.sm <= kernel.last and kernel.shared_bytes <= card.block:
            kind = (kernel.values, kernel.mask, kernel.dim)
            best = found.setdefault(kind, kernel)
            if best.fits(card) < best.blocks and kernel.fits(card) == kernel.blocks:
                found[kind] = kernel
    return list(found.values())


def measure(kernel: Kernel, card: Card, lines: list[str], registers: int) -> Cell:
    of_bytes, of_half = kernel.products
    products = of_bytes * 4 + of_half * 2 if card.sm < 80 else of_bytes + of_half
    bulk, turing = card.sm >= 90, card.sm < 80
    copies = 0 if bulk or turing else kernel.tile_bytes // (16 * 32 * kernel.warps)
    loop = short_loop(lines, products, copies)
    if not loop:
        raise SystemExit(f"count_sass: {kernel.name} for {card.target} has no loop of {products} products")
    count = Counter(pipe(line) for line in loop)
    share = kernel.warps / 4
    through_shared = (kernel.warps * kernel.fragment_bytes + kernel.tile_bytes) / 128
    clocks = {
        "tensor": share * (of_bytes * card.byte_product + of_half * card.half_product),
        "mufu": share * card.mufu * count["mufu"],
        "fma": share * card.fma * count["fma"],
        "alu": share * card.alu * count["alu"],
        "shared": kernel.warps * sum(wavefronts(line) for line in loop) + (kernel.tile_bytes / 128 if bulk else 0),
        "issue": share * len(loop),
    }
    least = max(clocks["tensor"], share * card.mufu * kernel.exponentials, through_shared)
    by_registers = 65536 // (-(-registers // 8) * 8 * 32 * kernel.warps)
    return Cell(count, clocks, least, min(by_registers, kernel.fits(card)))


def table(cells: dict[str, dict[str, Cell]]) -> str:
    head = f"| kernel | {' | '.join(card.name for card in CARDS)} |\n|---{'|---' * len(CARDS)}|\n"

    def line(fields: list[str]) -> str:
        return "|" + "".join(f" {field} |" if field else " |" for field in fields) + "\n"

    rows = [line([name, *(str(row.get(card.name, "")) for card in CARDS)]) for name, row in cells.items()]
    return head + "".join(rows)


def read_table(text: str) -> dict[tuple[str, str], int]:
    """Instructions by kernel and card."""
    rows = [[field.strip() for field in line.split("|")[1:-1]] for line in text.splitlines()]
    return {
        (row[0], card): int(cell.split(" / ")[0])
        for row in rows[2:]
        for card, cell in zip(rows[0][1:], row[1:], strict=True)
        if cell
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nvdisasm")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="pipe by pipe")
    args = parser.parse_args()
    code = {}
    for target in {card.target for card in CARDS}:
        cubin, facts = build_images.code_of(build_images.Unit(SOURCE, target))
        code[target] = (functions(cubin, args.nvdisasm), {str(k["kernel"]): int(k["registers"]) for k in facts})
    before, mark, rest = README.read_text().partition(MARK)
    old = re.match(r"(\|.*\n)*", rest)[0]  # type: ignore[index]
    limits = {} if args.write else read_table(old)
    cells: dict[str, dict[str, Cell]] = {kernel.name: {} for kernel in kernels()}
    found = []
    for card in CARDS:
        lines, registers = code[card.target]
        for kernel in chosen(card):
            cell = measure(kernel, card, lines[kernel.name], registers[kernel.name])
            cells[kernel.name][card.name] = cell
            where = f"{kernel.name}, {card.name}"
            if args.verbose:
                clocks = {name: round(clock) for name, clock in cell.clocks.items()}
                print(
                    f"{where}: {cell}\n    instructions {dict(cell.count)}\n    clocks {clocks}, least {cell.least:.0f}"
                )
            limit = limits.get((kernel.name, card.name), 1 << 30 if args.write else 0)
            if cell.instructions > limit * GROWTH:
                found.append(f"{where}: {cell.instructions} instructions a tile, {limit} in {README.name}")
            if cell.ratio > LIMIT[kernel.dim]:
                found.append(
                    f"{where}: {max(cell.clocks, key=lambda pipe: cell.clocks[pipe])} takes {cell.ratio:.2f} of the least"
                )
            if cell.blocks < kernel.fits(card):
                found.append(
                    f"{where}: {registers[kernel.name]} registers, {cell.blocks} blocks of {kernel.fits(card)}"
                )
    if args.write:
        new = table({name: row for name, row in cells.items() if row})
        README.write_text(before + mark + new + rest.removeprefix(old))
    for finding in found:
        print(finding, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
