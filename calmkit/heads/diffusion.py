"""diffusion: noise is taken out of the latent, level by level.

Training draws a timestep, a noise and a latent, mixes them by the cosine schedule and asks the network for
the noise (epsilon) or for v; a draw starts from noise and is denoised by a diffusers scheduler. The
network is told t = 0 at the noise end and t -> 1 at the data, as in `flow`: t = 1 - (k + 1) / T for
timestep k.

DDPM's steps take the posterior's variance, or one that the network learns as in CALM's released head, whose
likelihood term at the last step is that of 8-bit pixels; here it is that of a Gaussian.

The released head predicts epsilon; here v is the default. The cosine schedule ends at alpha_bar 2e-9, where a
latent is read from an epsilon with its error times 20,000: after 1000 steps of training on a two-dimensional
toy, draws by epsilon were off by a thousand and draws by v by 0.06. Epsilon wants long training.

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), 2024, section 3.2
(the loss). https://arxiv.org/abs/2406.11838
Sun et al., Multimodal Latent Language Modeling with Next-Token Diffusion (LatentLM), 2024 (v, DPM-Solver).
https://arxiv.org/abs/2412.08635
Shao et al., Continuous Autoregressive Language Models, 2025, section 7.4. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from calmkit.dynamics.ancestral import step_bits
from calmkit.dynamics.denoise import Denoiser, denoise
from calmkit.dynamics.paths import diffusion_path, diffusion_v, standard_noise
from calmkit.dynamics.schedules import (
    Prediction,
    Schedule,
    Scheduler,
    Spacing,
    Tell,
    Variance,
)
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Context,
    EventSpec,
    GenerativeHead,
    Guided,
    GuidedHead,
    HeadInfo,
    IterativeHead,
    Posterior,
    SampleOptions,
    StatesDrawFlops,
    TakesDraws,
)
from calmkit.nn.adaln import AdaLNMLP, draw_in_blocks
from calmkit.nn.settings import latent_dim_of, require_at_least
from calmkit.nn.time_embedding import STEPS


@final
class DiffusionHead(IterativeHead, GuidedHead, StatesDrawFlops, TakesDraws):
    """Denoising diffusion on the latent, cosine schedule.

    Args:
        hidden_dim: H.
        event: A latent vector `(D,)`.
        depth: Blocks of the network.
        width: W, of the blocks; None: H.
        repeats: Posterior draws per unit and step of training, each with a timestep and a noise.
        prediction: What the network gives.
        train_timesteps: T.
        zero_terminal_snr: End in pure noise; only with v.
        scheduler: `ddpm` is the reference, `ddim` wants steps that divide T, `dpm++` needs the fewest.
        num_steps: Network calls of a draw; None: 100 for ddpm, 20 for the others.
        variance: `learned` doubles the network's output and adds its term to the loss; ddpm uses it.
        tell: Whether the network is told the time t or the timestep k.
        spacing: Of the timesteps of a draw; `linspace` is that of the released code, and not for ddim.

    The temperature multiplies the noise of each step of ddpm, and the noise the others start from. The
    sample option `solver` names a scheduler.
    """

    info: ClassVar[HeadInfo] = HeadInfo(
        sampling="iterative",
        temperature="noise",
        options=frozenset({"temperature", "num_steps", "solver", "generator"}),
        half_precision=True,
        guidance="output",
    )

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        depth: int = 3,  # MAR's default; CALM takes a quarter of the backbone's layers
        width: int | None = None,  # CALM: the hidden width
        repeats: int = 8,  # CALM, section 7.4: h repeated 8 times
        prediction: Prediction = "v",  # LatentLM; CALM's release: epsilon
        train_timesteps: int = 1000,  # released code
        zero_terminal_snr: bool = False,
        scheduler: Scheduler = "dpm++",  # LatentLM; CALM's release: ddpm
        num_steps: int | None = None,  # ddpm: 100 in the release
        variance: Variance = "fixed",  # CALM's release: learned
        tell: Tell = "time",  # CALM's release: timestep
        spacing: Spacing = "trailing",  # CALM's release: linspace
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim_of("diffusion", event)
        width = hidden_dim if width is None else width
        require_at_least("diffusion", 1, depth=depth, width=width, repeats=repeats)
        self.schedule = Schedule(train_timesteps, prediction, zero_terminal_snr, variance, tell, spacing)
        self.schedule.sampling_steps("diffusion", scheduler, num_steps)
        self.repeats, self.scheduler, self.num_steps = repeats, scheduler, num_steps
        outputs = 2 if variance == "learned" else 1
        scale = 1.0 if tell == "timestep" else STEPS
        self.net = AdaLNMLP(self.latent_dim, hidden_dim, width, depth, outputs=outputs, time_scale=scale)

    def loss(self, context: Context, target: Posterior) -> Float[Tensor, "*units"]:
        """See `diffusion_loss`: squared error of the prediction per dimension, not nats."""
        c = self.net.condition(context.h.reshape(-1, context.h.shape[-1]))
        z = target.sample(self.repeats).reshape(self.repeats, -1, self.latent_dim)  # [R, N, D]
        loss = diffusion_loss(lambda z_t, t: self.net(z_t, t, c), z, self.schedule)
        return loss.reshape(context.h.shape[:-1])

    def sample(
        self, context: Context, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Independent draws."""
        options = self.info.accept(options)
        shape = (num, *context.h.shape[:-1], self.latent_dim)
        return self.from_noise(context, standard_noise(shape, context.h, options.generator), options)

    def from_noise(
        self, context: Context, noise: Float[Tensor, "num *units D"], options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """The draws that start from given noise, such as the noise of another code's draws.

        Args:
            context: As in `sample`.
            noise: Standard normal; `sample` draws it and comes here.
            options: As in `sample`; its generator is for what the steps of ddpm draw.

        Raises:
            ValueError: For noise of other units or another D, and options that `network_calls` refuses.
        """
        options = self.info.accept(options)
        return self._from_noise(((context, 1.0),), noise, options)

    def sample_guided(
        self, guided: Guided, num: int = 1, options: SampleOptions | None = None
    ) -> Float[Tensor, "num *units D"]:
        """Draws by the combined prediction sum_j w_j net(z_t, t, c_j), all terms in one network call.

        A learned variance is that of the first term, as in MAR's code.
        """
        options, h = self.info.accept(options), guided[0][0].h
        noise = standard_noise((num, *h.shape[:-1], self.latent_dim), h, options.generator)
        return self._from_noise(guided, noise, options)

    def _from_noise(self, guided: Guided, noise: Tensor, options: SampleOptions) -> Tensor:
        self.network_calls(options)  # refuses bad options before any work
        return draw_in_blocks(
            "diffusion", self.net, guided, noise, lambda net, start: self._draw(net, start, options)
        )

    def _draw(self, denoiser: Denoiser, noise: Tensor, options: SampleOptions) -> Tensor:
        return denoise(
            denoiser,
            noise,
            self.schedule,
            scheduler=self.scheduler if options.solver is None else options.solver,
            num_steps=self.num_steps if options.num_steps is None else options.num_steps,
            temperature=1.0 if options.temperature is None else options.temperature,
            generator=options.generator,
        )

    def network_calls(self, options: SampleOptions | None = None) -> int | None:
        """The steps of the scheduler.

        Raises:
            ValueError: For a scheduler that is not known, or a number of steps that it cannot do.
        """
        options = self.info.accept(options)
        steps = self.num_steps if options.num_steps is None else options.num_steps
        scheduler = self.scheduler if options.solver is None else options.solver
        return self.schedule.sampling_steps("diffusion", scheduler, steps)

    def forward_flops(self, units: int) -> int:
        """The condition once per unit, the network for each of its `repeats`."""
        return units * self.net.training_flops(self.repeats)

    def draw_flops(self, num: int = 1, options: SampleOptions | None = None) -> int | None:
        """The condition once, the network for each call and draw; never None."""
        calls = self.network_calls(options)
        return None if calls is None else self.net.drawing_flops(num, calls)


def diffusion_loss(denoiser: Denoiser, z: Float[Tensor, "R N D"], schedule: Schedule) -> Float[Tensor, " N"]:
    """Mean over R and D of the squared error of the prediction, with a timestep and a noise for each row.

    Timesteps are uniform, none is weighted. In float32 at least, also under autocast. Where the variance is
    learned, `step_bits` of the timestep is added; its gradient reaches the variance's share alone.

    Returns:
        One value per unit; for epsilon in units of the noise. For a latent N(m, s^2 I) the best denoiser
        is left with the mean over timesteps of alpha_bar s^2 / q (epsilon) or s^2 / q (v), where
        q = alpha_bar s^2 + 1 - alpha_bar.

    Source:
        Ho et al., Denoising Diffusion Probabilistic Models, 2020, Eq. 14. https://arxiv.org/abs/2006.11239
        Salimans and Ho, 2022, appendix D (v). https://arxiv.org/abs/2202.00512
    """
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    noise = torch.randn_like(z)
    timesteps = torch.randint(schedule.train_timesteps, z.shape[:-1], device=z.device)
    alpha_t, sigma_t = schedule.levels(timesteps, z.dtype)
    wanted = noise if schedule.prediction == "epsilon" else diffusion_v(noise, z, alpha_t, sigma_t)
    z_t = diffusion_path(noise, z, alpha_t, sigma_t)
    prediction = denoiser(z_t, schedule.time(timesteps, z.dtype)).to(z.dtype)
    if schedule.variance == "fixed":
        return (prediction - wanted).square().mean(-1).mean(0)
    prediction, share = prediction.chunk(2, -1)
    guess = schedule.latent(prediction.detach(), z_t, alpha_t, sigma_t)
    bits = step_bits(z, guess, share, schedule.steps(timesteps, z.dtype), timesteps == 0)
    return ((prediction - wanted).square().mean(-1) + bits).mean(0)


@hookimpl
def calmkit_heads() -> dict[str, type[GenerativeHead]]:
    """The door."""
    return {"diffusion": DiffusionHead}
