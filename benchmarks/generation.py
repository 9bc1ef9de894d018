"""How long sampling takes beside diffusers' own pipeline, over the same network and steps, in one run.

    python benchmarks/generation.py [--steps 16] [--images 4] [--repeats 5] [--bundle PATH|HUB] [--json]

The peer is diffusers' StableDiffusionPipeline with DPM-Solver++(2M) for flows, fed with the tokens that ours
has: only the loop around the network differs. Ours is timed with guidance at every step, which is the same
work, and as it is by default, with guidance in an interval. The pictures' largest difference is printed too.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from timing import denoiser_pass

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle

GUIDANCE = 2.0


def main() -> None:
    """Prints a table, or with --json one document."""
    options = parse()
    from dino_diffusion.cli.console import hush_libraries

    hush_libraries()
    from dino_diffusion.device import choose_device
    from dino_diffusion.models import ModelBundle

    bundle = ModelBundle.from_pretrained(options.bundle, choose_device(options.device))
    report = measure(bundle, options)
    print(json.dumps(report, indent=1) if options.json else table(report))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=16, metavar="K")
    parser.add_argument("--images", type=int, default=4, metavar="N", help="pictures of one call")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="median of N warm calls")
    parser.add_argument("--bundle", metavar="PATH|HUB", help="default: the one that travels with the package")
    parser.add_argument("--device", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def measure(bundle: ModelBundle, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds a picture, and how many times as fast ours is."""
    from dino_diffusion.generation.variants import generate

    settings = {"count": options.images, "steps": options.steps, "guidance": GUIDANCE}
    whole, pipeline = (0.0, 1.0), peer(bundle)
    works: dict[str, Callable[[], object]] = {
        "denoiser pass": denoiser_pass(bundle),
        "diffusers": lambda: through_diffusers(pipeline, bundle, options.images, options.steps),
        "ours, guidance at every step": lambda: generate(bundle, guidance_interval=whole, **settings),
        "ours": lambda: generate(bundle, **settings),
    }
    seconds = interleaved(works, options.repeats)
    seconds |= {name: value / options.images for name, value in seconds.items() if name != "denoiser pass"}
    theirs = through_diffusers(pipeline, bundle, 1, options.steps)
    ours = generate(bundle, 1, steps=options.steps, guidance=GUIDANCE, guidance_interval=whole)[0].pixels
    return {
        "bundle": bundle.id,
        "device": str(bundle.device),
        "threads": torch.get_num_threads(),
        "steps": options.steps,
        "images": options.images,
        "seconds_per_image": seconds,
        "speed_up": {name: seconds["diffusers"] / value for name, value in seconds.items() if "ours" in name},
        "largest_difference": float((theirs[0, 0].float().cpu() - torch.from_numpy(ours)).abs().max()),
    }


def interleaved(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, called in turn: another program on the machine then slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            # The first call allocates and plans.
            times[name] += [time.perf_counter() - start] if number else []
    return {name: statistics.median(values) for name, values in times.items()}


@torch.no_grad()
def through_diffusers(pipeline: Any, bundle: ModelBundle, count: int, steps: int) -> torch.Tensor:
    """`count` pictures `(count, 1, S, S)` of seed 0 from the prior's tokens by diffusers' pipeline."""
    from dino_diffusion.device import inference
    from dino_diffusion.models import EncoderOutput, Frame
    from dino_diffusion.sampling import initial_noise

    generators = [torch.Generator().manual_seed(index) for index in range(count)]
    with inference(bundle.device):
        drawn = [bundle.prior.sample(1, generator) for generator in generators]
        tokens = EncoderOutput(torch.cat([d.cls for d in drawn]), torch.cat([d.patches for d in drawn]))
        frames = torch.tensor([Frame(size=bundle.size).numbers()] * count, device=bundle.device)
        condition, nothing = bundle.denoiser.condition(tokens, frames), bundle.denoiser.unconditional(frames)
        noise = [initial_noise((1, *bundle.latent_shape), g, bundle.device) for g in generators]
        unet = bundle.denoiser.unet
        honest = unet.forward
        unet.forward = functools.partial(honest, class_labels=torch.cat([nothing.frame, condition.frame]))
        try:
            latents = pipeline(
                prompt_embeds=condition.tokens,
                negative_prompt_embeds=nothing.tokens,
                latents=torch.cat(noise),
                height=bundle.size,
                width=bundle.size,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                output_type="latent",
            ).images
        finally:
            unet.forward = honest
        return bundle.autoencoder.decode(latents)


def peer(bundle: ModelBundle) -> Any:
    """The pipeline around the bundle's U-Net; its own autoencoder is a stand-in that is never run."""
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline

    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=bundle.time_shift, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(4,) * 4, norm_num_groups=2),
        text_encoder=None,
        tokenizer=None,
        unet=bundle.denoiser.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def table(report: dict[str, Any]) -> str:
    """Lines for a person."""
    lines = [
        f"bundle {report['bundle']} on {report['device']}, {report['threads']} threads, {report['steps']} "
        f"steps, {report['images']} pictures a call",
        "",
        f"{'per picture':<32}{'seconds':>10}{'times as fast':>16}",
    ]
    for name, seconds in report["seconds_per_image"].items():
        faster = report["speed_up"].get(name)
        lines.append(
            f"{name:<32}{seconds:>10.3f}{faster:>16.2f}" if faster else f"{name:<32}{seconds:>10.3f}"
        )
    return "\n".join([*lines, "", f"largest difference of a pixel: {report['largest_difference']:.3f}"])


if __name__ == "__main__":
    main()
