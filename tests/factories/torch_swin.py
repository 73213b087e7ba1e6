"""State dicts of tiny Swin transformers under the names of each program, and their features by the definition."""

import re

import numpy as np

EPSILON = 1e-5


def random_swin(network, *, channels=3, seed=0):
    """Makes a state dict of a `SwinTransformer` as timm names it."""
    random, state = np.random.default_rng(seed), {}

    def dense(name, outputs, inputs, bias=True):
        state[f"{name}.weight"] = random.normal(scale=inputs**-0.5, size=(outputs, inputs))
        if bias:
            state[f"{name}.bias"] = random.normal(scale=0.1, size=outputs)

    def norm(name, d):
        state[f"{name}.weight"], state[f"{name}.bias"] = random.uniform(0.5, 1.5, d), random.normal(scale=0.1, size=d)

    dense("patch_embed.proj", network.width, channels * network.patch**2)
    kernel = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = kernel.reshape(-1, channels, network.patch, network.patch)
    norm("patch_embed.norm", network.width)
    for stage, (count, heads) in enumerate(zip(network.depths, network.heads)):
        d = network.width * 2**stage
        if stage:
            norm(f"layers.{stage}.downsample.norm", 2 * d)
            dense(f"layers.{stage}.downsample.reduction", d, 2 * d, bias=False)
        for number in range(count):
            name = f"layers.{stage}.blocks.{number}"
            norm(f"{name}.norm1", d)
            state[f"{name}.attn.relative_position_bias_table"] = random.normal(
                size=((2 * network.window - 1) ** 2, heads)
            )
            dense(f"{name}.attn.qkv", 3 * d, d)
            dense(f"{name}.attn.proj", d, d)
            norm(f"{name}.norm2", d)
            dense(f"{name}.mlp.fc1", 4 * d, d)
            dense(f"{name}.mlp.fc2", d, 4 * d)
    norm("norm", d)
    dense("head.fc", 4, d)
    return {name: array.astype("float32") for name, array in state.items()}


def run_swin(torch, network, state, film):
    """Returns the last map `(n, rows, columns, d)` of a film `(n, 3, h, w)`, with turned maps as programs have them."""
    functional, window = torch.nn.functional, network.window
    state = {name: torch.tensor(array) for name, array in state.items()}

    def dense(x, name):
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=EPSILON)

    def divide(x):
        n, rows, columns, d = x.shape
        x = x.reshape(n, rows // window, window, columns // window, window, d)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(n, -1, window**2, d)

    def join(x, rows, columns):
        x = x.reshape(len(x), rows // window, columns // window, window, window, -1)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(len(x), rows, columns, -1)

    def attend(x, name, heads, shift):
        n, rows, columns, d = x.shape
        x = divide(torch.roll(x, (-shift, -shift), (1, 2)))
        query, key, value = dense(x, f"{name}.qkv").reshape(*x.shape[:3], 3, heads, -1).permute(3, 0, 1, 4, 2, 5)
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        down, right = (places[:, None] - places + window - 1).unbind(-1)
        table = state[f"{name}.relative_position_bias_table"]
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        scores = scores + table[down * (2 * window - 1) + right].permute(2, 0, 1)
        if shift:
            parts = torch.zeros(1, rows, columns, 1)
            for number, ends in enumerate([(0, -window), (-window, -shift), (-shift, None)]):
                parts[:, slice(*ends)] += 3 * number
                parts[:, :, slice(*ends)] += number
            parts = divide(parts)[..., 0]
            scores = scores - 100.0 * (parts[..., None] != parts[..., None, :])[:, :, None]
        x = (torch.softmax(scores, dim=-1) @ value).transpose(2, 3).reshape(n, -1, window**2, d)
        return torch.roll(join(dense(x, f"{name}.proj"), rows, columns), (shift, shift), (1, 2))

    x = functional.conv2d(film, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=network.patch)
    x = norm(x.permute(0, 2, 3, 1), "patch_embed.norm")
    for stage, (count, heads) in enumerate(zip(network.depths, network.heads)):
        if stage:
            squares = [x[:, down::2, right::2] for right in (0, 1) for down in (0, 1)]
            name = f"layers.{stage}.downsample"
            x = dense(norm(torch.cat(squares, dim=-1), f"{name}.norm"), f"{name}.reduction")
        for number in range(count):
            name = f"layers.{stage}.blocks.{number}"
            shift = window // 2 if number % 2 and x.shape[1] > window else 0
            x = x + attend(norm(x, f"{name}.norm1"), f"{name}.attn", heads, shift)
            x = x + dense(functional.gelu(dense(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    return norm(x, "norm")


def rename_microsoft(state):
    """Gives the merging of places the number of the stage before it, and adds the constants of windows."""
    renamed = {
        re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key): array
        for key, array in state.items()
    }
    constants = {"attn.relative_position_index": np.zeros((9, 9), "int64"), "attn_mask": np.zeros((4, 9, 9), "float32")}
    return renamed | {f"layers.0.blocks.1.{name}": array for name, array in constants.items()}


def rename_torchvision(state):
    names = [
        (r"patch_embed\.proj", "features.0.0"),
        (r"patch_embed\.norm", "features.0.2"),
        (r"layers\.(\d)\.downsample", lambda found: f"features.{2 * int(found[1])}"),
        (r"layers\.(\d)\.blocks\.(\d)", lambda found: f"features.{2 * int(found[1]) + 1}.{found[2]}"),
        (r"mlp\.fc1", "mlp.0"),
        (r"mlp\.fc2", "mlp.3"),
        (r"head\.fc", "head"),
    ]
    return {_rename(key, names): array for key, array in state.items()} | {
        "features.1.0.attn.relative_position_index": np.zeros(81, "int64")
    }


def rename_hugging_face(state):
    names = [
        (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"patch_embed\.norm", "embeddings.norm"),
        (r"norm1", "layernorm_before"),
        (r"norm2", "layernorm_after"),
        (r"attn\.proj", "attention.output.dense"),
        (r"attn\.", "attention.self."),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"^layers", "encoder.layers"),
        (r"^norm", "layernorm"),
    ]
    renamed = {}
    for key, array in rename_microsoft(state).items():
        if ".qkv." in key:
            for part, own in zip(("query", "key", "value"), np.split(array, 3)):
                renamed[f"swin.{_rename(key.replace('qkv', part), names)}"] = own
        elif key.startswith("head"):
            renamed[key.replace("head.fc", "classifier")] = array
        else:
            renamed[f"swin.{_rename(key, names)}"] = array
    return renamed


def _rename(key, names):
    for old, new in names:
        key = re.sub(old, new, key)
    return key


RENAMES = {
    "timm": lambda state: {f"module.{key}": array for key, array in state.items()},
    "microsoft": rename_microsoft,
    "torchvision": rename_torchvision,
    "hugging_face": rename_hugging_face,
}
