"""State dicts of tiny networks under PyTorch's names, and their features by the definition of the network."""

import numpy as np


def random_resnet(network, *, channels=3, classes=4, seed=0):
    """Makes a state dict of a `ResNet` as torchvision names it."""
    random, state = np.random.default_rng(seed), {}

    def conv(name, outputs, inputs, size):
        state[f"{name}.weight"] = random.normal(
            scale=(inputs * size * size) ** -0.5, size=(outputs, inputs, size, size)
        )

    def norm(name, n):
        state[f"{name}.weight"], state[f"{name}.running_var"] = random.uniform(0.5, 1.5, (2, n))
        state[f"{name}.bias"], state[f"{name}.running_mean"] = random.normal(scale=0.1, size=(2, n))
        state[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", network.widths[0], channels, 7)
    norm("bn1", network.widths[0])
    before = network.widths[0]
    for stage, (count, width) in enumerate(zip(network.blocks, network.widths), start=1):
        for number in range(count):
            name = f"layer{stage}.{number}"
            sizes = [(width, 1), (width, 3), (4 * width, 1)] if network.bottleneck else [(width, 3), (width, 3)]
            inputs = before
            for place, (outputs, size) in enumerate(sizes, start=1):
                conv(f"{name}.conv{place}", outputs, inputs, size)
                norm(f"{name}.bn{place}", outputs)
                inputs = outputs
            if before != inputs or (stage > 1 and number == 0):
                conv(f"{name}.downsample.0", inputs, before, 1)
                norm(f"{name}.downsample.1", inputs)
            before = inputs
    state["fc.weight"], state["fc.bias"] = random.normal(size=(classes, before)), np.zeros(classes)
    return {name: np.asarray(array, "int64" if array.ndim == 0 else "float32") for name, array in state.items()}


def run_resnet(torch, network, state, film):
    """Returns the map `(n, d, rows, columns)` of a film `(n, 3, h, w)`."""
    functional = torch.nn.functional
    state = {name: torch.tensor(array) for name, array in state.items()}

    def step(x, conv, norm, stride=1):
        kernel = state[f"{conv}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        values = [state[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *values, eps=1e-5)

    x = functional.max_pool2d(functional.relu(step(film, "conv1", "bn1", 2)), 3, stride=2, padding=1)
    for stage, count in enumerate(network.blocks, start=1):
        for number in range(count):
            name, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            strides = (1, stride, 1) if network.bottleneck else (stride, 1)
            y = x
            for place, one in enumerate(strides, start=1):
                y = step(y, f"{name}.conv{place}", f"{name}.bn{place}", one)
                y = functional.relu(y) if place < len(strides) else y
            if f"{name}.downsample.0.weight" in state:
                x = step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = functional.relu(x + y)
    return x


def random_transformer(network, *, side, channels=3, registers=0, seed=0):
    """Makes a state dict of a `VisionTransformer` as timm and DINOv2 name it, for films of `side` patches."""
    random, state, d = np.random.default_rng(seed), {}, network.size

    def dense(name, outputs, inputs):
        state[f"{name}.weight"] = random.normal(scale=inputs**-0.5, size=(outputs, inputs))
        state[f"{name}.bias"] = random.normal(scale=0.1, size=outputs)

    def norm(name):
        state[f"{name}.weight"], state[f"{name}.bias"] = random.uniform(0.5, 1.5, d), random.normal(scale=0.1, size=d)

    dense("patch_embed.proj", d, channels * network.patch**2)
    kernel = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = kernel.reshape(d, channels, network.patch, network.patch)
    units = network.units or 4 * d
    if network.class_token:
        state["cls_token"] = random.normal(size=(1, 1, d))
    if registers:
        state["register_tokens"] = random.normal(size=(1, registers, d))
    state["pos_embed"] = random.normal(size=(1, network.class_token + side**2, d))
    for number in range(network.depth):
        name = f"blocks.{number}"
        norm(f"{name}.norm1")
        dense(f"{name}.attn.qkv", 3 * d, d)
        dense(f"{name}.attn.proj", d, d)
        norm(f"{name}.norm2")
        dense(f"{name}.mlp.fc1", units, d)
        dense(f"{name}.mlp.fc2", d, units)
        if network.residual_scale:
            for place in (1, 2):
                state[f"{name}.ls{place}.gamma"] = random.uniform(0.5, 1.5, d)
    norm("norm")
    dense("head", 4, d)
    if network.pre_norm:  # CLIP
        norm("norm_pre")
        del state["patch_embed.proj.bias"]
    return {name: array.astype("float32") for name, array in state.items()}


def run_transformer(torch, network, state, film):
    """Returns the patches' last tokens `(n, m, d)` of a film `(n, 3, h, w)`; resamples positions as programs do."""
    functional = torch.nn.functional
    state = {name: torch.tensor(array) for name, array in state.items()}
    d, registers = network.size, state.get("register_tokens")

    def dense(x, name):
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, name):
        return functional.layer_norm(x, (d,), state[f"{name}.weight"], state[f"{name}.bias"], eps=network.epsilon)

    bias = state.get("patch_embed.proj.bias")
    x = functional.conv2d(film, state["patch_embed.proj.weight"], bias, stride=network.patch)
    table, first = state["pos_embed"], int(network.class_token)
    side = round((table.shape[1] - first) ** 0.5)
    if side != x.shape[-1]:
        grid = table[:, first:].reshape(1, side, side, d).permute(0, 3, 1, 2)
        options = {"mode": "bicubic", "antialias": registers is not None or not network.residual_scale}
        grid = functional.interpolate(grid, size=tuple(x.shape[2:]), **options)
        table = torch.cat([table[:, :first], grid.flatten(2).permute(0, 2, 1)], dim=1)
    x = x.flatten(2).permute(0, 2, 1)
    if first:
        x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + table
    if registers is not None:
        x = torch.cat([x[:, :1], registers.expand(len(x), -1, -1), x[:, 1:]], dim=1)
    x = norm(x, "norm_pre") if network.pre_norm else x
    for number in range(network.depth):
        name, one = f"blocks.{number}", torch.ones(d)
        y = dense(norm(x, f"{name}.norm1"), f"{name}.attn.qkv")
        query, key, value = y.reshape(*y.shape[:2], 3, network.heads, -1).permute(2, 0, 3, 1, 4)
        share = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)
        y = dense((share @ value).transpose(1, 2).reshape(x.shape), f"{name}.attn.proj")
        x = x + y * state.get(f"{name}.ls1.gamma", one)
        y = dense(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        if network.activation == "quick-gelu":
            y = y * torch.sigmoid(1.702 * y)
        else:
            y = functional.gelu(y, approximate="tanh" if network.activation == "gelu-tanh" else "none")
        x = x + dense(y, f"{name}.mlp.fc2") * state.get(f"{name}.ls2.gamma", one)
    return norm(x, "norm")[:, first + (0 if registers is None else registers.shape[1]) :]
