"""What `hinf-rl COMMAND --help` says first; apart, so that help loads nothing else."""

DESCRIPTION = """usage: hinf-rl COMMAND ...

Train policies that survive the worst case, and measure that they do.

  hinf-rl list                                tasks and algorithms
  hinf-rl train cartpole --output runs/cart   train a policy; --resume goes on
  hinf-rl evaluate runs/cart                  how it survives what it never saw
  hinf-rl compare runs/a runs/b               which of several runs is better
  hinf-rl render runs/cart                    pictures of it
  hinf-rl export runs/cart                    the policy as ONNX, or as one NumPy file
  hinf-rl verify policy.onnx                  does it do the same in plain MuJoCo?
  hinf-rl sweep cartpole --set KEY=A,B,C      train every combination of settings
  hinf-rl doctor                              what this machine can do
  hinf-rl completion bash                     completion of commands and options

hinf-rl COMMAND --help explains a command; --debug anywhere shows tracebacks;
hinf-rl --version shows the version."""

TRAIN = """Train a policy on a task.

  hinf-rl train aliengo --algorithm hinf --seeds 3 --output runs/aliengo
  hinf-rl train aliengo --output runs/aliengo --resume
  hinf-rl train cartpole --steps 2e6 --set agent.gamma=0.98 env.randomise=true
  hinf-rl train cartpole --wandb robust                  metrics to Weights & Biases as well
  hinf-rl train cartpole --devices 4                     four devices of this machine
  hinf-rl train cartpole --coordinator host0:1234 --num-processes 2 --process-id 0
                                                         on host0, and with 1 on host1

Ctrl-C saves; --resume then goes on to the same numbers, bit for bit on a CPU."""

SWEEP = """Train every combination of some settings.

  hinf-rl sweep cartpole --set agent.constraint.attenuation=0.5,1,2 --seeds 3
  hinf-rl sweep cartpole --set "agent.actor.hidden=(32,32),(64,64)" --processes 2

Numeric settings of the algorithm train side by side in one batch. Others (sizes of networks, the
environment) need a compilation each: they train one after the other, or in --processes N at once.
Values that are lists go in brackets. OUTPUT/table.md, table.json and parallel.png show the result;
the same command again goes on where it stopped."""

EVALUATE = """Measure a run with the robustness protocol and write its report.

  hinf-rl evaluate runs/aliengo
  hinf-rl evaluate runs/aliengo --quick         a first look in a minute
  hinf-rl evaluate runs/aliengo --baseline runs/aliengo-nominal
  hinf-rl evaluate runs/from-gpu --physics native   trained in MJX, tested in MuJoCo's own engine"""

COMPARE = """Compare evaluated runs of one task.

  hinf-rl compare runs/aliengo runs/aliengo-nominal
  hinf-rl compare runs/a runs/b runs/c --output compare.md

Writes the estimates under every condition of the evaluation with intervals over seeds, the chance
that each run beats the first, survival over force and the curves of training. All runs must have
been evaluated in the same way, with `hinf-rl evaluate`."""

RENDER = """Draw a run's policy under force.

  hinf-rl render runs/aliengo
  hinf-rl render runs/aliengo --beside runs/aliengo-nominal    both under the same pushes"""

EXPORT = """Write a run's policy to a file that needs nothing of this package.

  hinf-rl export runs/aliengo                   ONNX graph: normaliser to joint targets
  hinf-rl export runs/aliengo --format numpy    one Python file that needs NumPy only
  hinf-rl export runs/aliengo --format jax      parameters for hinf_rl.export.load_policy

The file is compared with the trained policy before it is written, and says how it compared, what
its inputs mean and which gains and limits belong to it."""

VERIFY = """Run an exported quadruped policy in plain MuJoCo, apart from the training environment.

  hinf-rl verify runs/aliengo/export/policy.onnx --run runs/aliengo
  hinf-rl verify policy.py --task aliengo --motor torque     a PD loop at 1 kHz drives the joints

Exit code 0: survival is that of the trained policy, up to chance; 1: it is not."""

DOCTOR = """Show devices, versions, graphics and the physics speed of this machine."""

COMPLETION = """Print a script that completes commands, options, tasks and algorithms.

  hinf-rl completion bash > ~/.local/share/bash-completion/completions/hinf-rl
  hinf-rl completion zsh >> ~/.zshrc"""

__all__ = [
    "COMPARE",
    "COMPLETION",
    "DESCRIPTION",
    "DOCTOR",
    "EVALUATE",
    "EXPORT",
    "RENDER",
    "SWEEP",
    "TRAIN",
    "VERIFY",
]
