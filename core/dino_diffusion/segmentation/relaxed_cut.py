"""Minimum cuts of many pictures at once, on a GPU: the minimum of the cut's convex relaxation.

Where every place may be inside to a share u in [0, 1], the cut is min over u of max over p of
<p, Du> - <odds, u>, with D the differences to `STEPS`' neighbours and p between -back and out; wherever that
minimum is thresholded there is a minimum cut (Chan, Esedoglu and Nikolova, SIAM J. Appl. Math. 2006). It is
found by the primal-dual method of Chambolle and Pock (2011) with the diagonal preconditioning of Pock and
Chambolle (ICCV 2011): each place has eight differences, each difference two places.
"""

from __future__ import annotations

import torch

from dino_diffusion.segmentation.cut_costs import STEPS, CutCosts

ITERATIONS = 600
BALANCE = 2.0
"""Between the steps of p and of u; any value converges. On 48 dev images 2 came to the exact cut first, after
500 to 600 iterations; 3 was as good, 1 and 10 were slower."""


def relaxed_cuts(costs: CutCosts, start: torch.Tensor, iterations: int = ITERATIONS) -> torch.Tensor:
    """Where the structures are, `(B, H, W)` bool on the costs' device, from a first guess `start` (B, H, W).

    The answer is `edge_cut`'s but for single places that cost the same on both sides, and the same for a
    picture whichever others it comes with.
    """
    odds, out, back = (part.flatten(-2) for part in costs)
    least = -back
    places = torch.arange(odds.shape[-1], device=odds.device)
    # Places at a border have neighbours around the corner here, whose outlines cost nothing.
    shifts = torch.tensor(
        [[down * start.shape[-1] + right] for (down, right), _ in STEPS], device=odds.device
    )
    after, before = (places + shifts) % len(places), (places - shifts) % len(places)
    before = before + len(places) * torch.arange(len(STEPS), device=odds.device)[:, None]
    share = ahead = start.flatten(-2)
    flow = torch.zeros_like(out)
    for _ in range(iterations):
        # Few operations: a GPU computes each in less time than it takes to ask for it.
        flow = flow.add(ahead[:, None] - ahead[:, after], alpha=BALANCE / 2).clamp(least, out)
        lost = (flow - flow.flatten(1)[:, before]).sum(1)
        last, share = share, share.sub(lost - odds, alpha=1 / (8 * BALANCE)).clamp(0, 1)
        ahead = torch.lerp(last, share, 2)
    return (share > 0.5).unflatten(-1, start.shape[1:])
