"""Every error that an operation can raise: what was received, why it cannot work, the fix."""

# ruff: noqa: E501 - a table is read row by row

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F

OPS = Path(cr.autograd.__file__).parent / "ops"
x, v, cube, image = cr.ones(2, 3), cr.ones(3), cr.ones(2, 2, 2), cr.ones(1, 2, 4, 4)
places = cr.tensor([[0, 1, 0]])


def rnn(gates=1, function=cr.rnn_sequence, **other):
    """Two sequences, of two steps and one; inputs of 4, states of 2."""
    given = {"h0": cr.ones(2, 2), "x": cr.ones(3, 4), "w_ih": cr.ones(2 * gates, 4), "w_hh": cr.ones(2 * gates, 2)}
    return function(**{**given, "batch_sizes": (2, 1), **other})


lstm, gru = partial(rnn, 4, cr.lstm_sequence, c0=cr.ones(2, 2)), partial(rnn, 3, cr.gru_sequence)


def tree(children, sizes):
    return cr.autograd.rnn_tree(cr.ones(2, 2), cr.ones(2, 4), None, np.array(children), sizes=sizes)


def graph(sources, slots, levels):
    edges = np.array(sources), np.array(slots)
    return cr.autograd.lstm_graph(cr.ones(3, 8), cr.ones(8, 2), *edges, levels=levels, child_sum=True)


# fmt: off
ERRORS = [
    (lambda: cr.sum(x, dim=0, axis=0), TypeError, "sum: received both dim= and axis=, which mean the same; pass one"),
    (lambda: cr.sum(x, dim=0.5), TypeError, "sum: received dim=0.5; a dimension is named by an integer"),
    (lambda: cr.sum(x, dim=True), TypeError, "sum: received dim=True; a dimension is named by an integer"),
    (lambda: cr.sum(x, dim=2), IndexError, "sum: received dim=2 for a tensor of 2 dimensions; pass a dim from -2 to 1"),
    (lambda: cr.sum(cr.tensor(1.0), dim=1), IndexError, "sum: received dim=1 for a tensor of 0 dimensions; pass a dim from -1 to 0"),
    (lambda: cr.sum(x, dim=(0, -2)), ValueError, "sum: received dim=(0, -2), which names a dimension twice; name each once"),
    (lambda: cr.reshape(x, "a"), TypeError, "reshape: received sizes ('a',); sizes are integers"),
    (lambda: cr.reshape(x, -2, 3), ValueError, "reshape: received the shape (-2, 3); sizes are at least 0, and at most one may be -1"),
    (lambda: cr.reshape(x, -1, -1), ValueError, "reshape: received the shape (-1, -1); sizes are at least 0, and at most one may be -1"),
    (lambda: cr.reshape(x, 5), ValueError, "reshape: shape (2, 3) has 6 elements and cannot become (5,); the products of the sizes must be equal"),
    (lambda: cr.reshape(x, 4, -1), ValueError, "reshape: shape (2, 3) has 6 elements and cannot become (4, -1); the products of the sizes must be equal"),
    (lambda: x.flatten(1, 0), ValueError, "flatten: start_dim=1 comes after end_dim=0; swap them"),
    (lambda: cr.permute(x, 0, 0), ValueError, "permute: received (0, 0) for shape (2, 3); name each of the 2 dimensions once"),
    (lambda: cr.permute(x, 0), ValueError, "permute: received (0,) for shape (2, 3); name each of the 2 dimensions once"),
    (lambda: cr.transpose(x, 0), TypeError, "transpose: received one dim; pass the two dims to swap, or none to reverse them all"),
    (lambda: cr.movedim(x, (0, 1), 0), ValueError, "movedim: received [0, 1] to [0]; name as many destinations as sources, each once"),
    (lambda: cr.t(cube), ValueError, "t: received 3 dimensions (2, 2, 2); t is for matrices; use transpose(dim0, dim1)"),
    (lambda: x.expand(3), ValueError, "expand: received 1 sizes (3,) for shape (2, 3); give a size for each dimension"),
    (lambda: x.repeat(2), ValueError, "repeat: received (2,) for shape (2, 3); pass a count of at least 0 for each dimension"),
    (lambda: x.repeat(-1, 2), ValueError, "repeat: received (-1, 2) for shape (2, 3); pass a count of at least 0 for each dimension"),
    (lambda: cr.stack([x, v]), ValueError, "stack: received tensors of shapes (2, 3), (3,); they must be equal; cat joins others"),
    (lambda: cr.stack([]), ValueError, "stack: received an empty list; there is nothing to join; pass at least one tensor"),
    (lambda: cr.cat(cr.tensor(1.0)), TypeError, "cat: received one Tensor; pass a list of tensors"),
    (lambda: cr.cat([]), ValueError, "cat: received an empty list; there is nothing to join; pass at least one tensor"),
    (lambda: cr.cat([x, v]), ValueError, "cat: received tensors of shapes (2, 3), (3,); they must be equal except along dimension 0; reshape them, or stack them along a new dimension"),
    (lambda: cr.cat([x, x[:, :2]]), ValueError, "cat: received tensors of shapes (2, 3), (2, 2); they must be equal except along dimension 0; reshape them, or stack them along a new dimension"),
    (lambda: x.expand(4, 3), ValueError, "broadcast: shape (2, 3) does not broadcast to (4, 3); aligned at the right, each size must be equal or 1"),
    (lambda: cr.narrow(x, 1, 2, 2), IndexError, "narrow: start=2, length=2 leave dimension 1 of shape (2, 3); stay inside it"),
    (lambda: cr.split(x, [1, 1], 1), ValueError, "split: the sections [1, 1] do not add up to the 3 of dimension 1; make them do so"),
    (lambda: cr.split(x, 0), ValueError, "split: received a piece size of 0; it must be at least 1"),
    (lambda: cr.chunk(x, 0), ValueError, "chunk: received chunks=0; it must be at least 1"),
    (lambda: cr.pad(x, (1,)), ValueError, "pad: received (1,) for shape (2, 3); pass a pair (before, after) for each padded dimension, last first"),
    (lambda: cr.pad(x, (-2, -2)), ValueError, "pad: (-2, -2) cuts more than shape (2, 3) has; cut less"),
    (lambda: cr.pad(x, (1, 1), mode="mirror"), ValueError, "pad: received mode='mirror'; it can be 'constant', 'reflect', 'replicate' or 'circular'"),
    (lambda: cr.pad(x, (3, 0), mode="reflect"), ValueError, "pad: reflect by (3, 0) needs a dimension larger than 3; pad less, or use 'constant'"),
    (lambda: cr.pad(x, (-1, 0), mode="circular"), ValueError, "pad: circular by (-1, 0): only 'constant' takes negative widths; cut with x[...] first"),
    (lambda: cr.bitwise_not(x), TypeError, "bitwise_not: received a tensor of float32; bits are those of integers and bools; convert it first"),
    (lambda: cr.clamp(x), ValueError, "clamp: received neither min nor max; pass at least one bound"),
    (lambda: cr.gelu(x, approximate="erf"), ValueError, "gelu: received approximate='erf'; it can be 'none' or 'tanh'"),
    (lambda: x + v[:2], ValueError, "add: shape (2, 3) of float32, shape (2,) of float32 do not broadcast; aligned at the right, each pair of sizes must be equal or hold a 1; use reshape or unsqueeze to align them"),
    (lambda: x[0.5], IndexError, "getitem: received 0.5 as an index of a tensor of shape (2, 3); pass integers, slices, None, ..., or integer or bool tensors"),
    (lambda: x[cr.tensor([0.5])], IndexError, "getitem: received an index of dtype float32; indices are integers or bools; convert it with .long()"),
    (lambda: x["a"], IndexError, "getitem: received 'a' as an index of a tensor of shape (2, 3); pass integers, slices, None, ..., or integer or bool tensors"),
    (lambda: x[2], IndexError, "received x[2] for shape (2, 3); stay inside each dimension"),
    (lambda: x[0, 0, 0], IndexError, "received x[0, 0, 0] for shape (2, 3); stay inside each dimension"),
    (lambda: x[cr.tensor([5])], IndexError, "received x[array of shape (1,)] for shape (2, 3); stay inside each dimension"),
    (lambda: x[cr.tensor([True, False, True])], IndexError, "received x[array of shape (3,)] for shape (2, 3); stay inside each dimension"),
    (lambda: cr.with_item(x, 0, cr.ones(2)), ValueError, "setitem: a value of shape (2,) does not fit the place of shape (3,) in shape (2, 3); make it broadcastable"),
    (lambda: cr.gather(cr.tensor(1.0), 0, cr.tensor(0)), ValueError, "gather: received a 0-d tensor, which has no dimension to index; use x.reshape(1)"),
    (lambda: cr.gather(x, 0, cr.tensor([[0.5]])), TypeError, "gather: received an index of dtype float32; it must hold integers; convert it with .long()"),
    (lambda: cr.gather(x, 0, cr.tensor([[2]])), IndexError, "gather: index 2 is outside dimension 0 of size 2; indices go from -2 to 1"),
    (lambda: cr.gather(x, 0, cr.tensor([[-3]])), IndexError, "gather: index -3 is outside dimension 0 of size 2; indices go from -2 to 1"),
    (lambda: cr.gather(x, 0, cr.tensor([0])), ValueError, "gather: the index has shape (1,), which does not fit shape (2, 3): as many dimensions, and no larger except along dim 0"),
    (lambda: cr.scatter_add(x, 0, cr.tensor([[0, 0, 0, 0]]), cr.ones(1, 4)), ValueError, "scatter_add: the index has shape (1, 4), which does not fit shape (2, 3): as many dimensions, and no larger except along dim 0"),
    (lambda: cr.gather(x, cr.tensor([[0, 1, 0]]), 0), TypeError, "gather: received a Tensor of shape (1, 3) as dim; a dimension is named by an integer; check the order of the arguments"),
    (lambda: cr.gather(x, cr.tensor([[0]]), 0), TypeError, "gather: received a Tensor of shape (1, 1) as dim; a dimension is named by an integer; check the order of the arguments"),
    (lambda: cr.index_select(x, np.array([0]), 0), TypeError, "index_select: received a ndarray of shape (1,) as dim; a dimension is named by an integer; check the order of the arguments"),
    (lambda: cr.scatter(x, places, 0, 1.0), TypeError, "scatter: received a Tensor of shape (1, 3) as dim; a dimension is named by an integer; check the order of the arguments"),
    (lambda: cr.scatter(x, 0, places, None), TypeError, "scatter: received a NoneType as src, which holds no values for the places of the index; pass a tensor, such as cr.full(index.shape, 1.0)"),
    (lambda: cr.scatter_add(x, 0, places, None), TypeError, "scatter_add: received a NoneType as src, which holds no values for the places of the index; pass a tensor, such as cr.full(index.shape, 1.0)"),
    (lambda: cr.scatter_add(x, 0, places, 1.0), TypeError, "scatter_add: received a float as src, which holds no values for the places of the index; pass a tensor, such as cr.full(index.shape, 1.0)"),
    (lambda: cr.scatter(x.long(), 0, places, v.reshape(1, 3)), TypeError, "scatter: received src of dtype float32 for a tensor of dtype int64; they must be equal, lest values change unseen; convert one, as in src.to(cr.int64)"),
    (lambda: cr.scatter_add(x, 0, places, np.ones((1, 3))), TypeError, "scatter_add: received src of dtype float64 for a tensor of dtype float32; they must be equal, lest values change unseen; convert one, as in src.to(cr.float32)"),
    (lambda: cr.scatter(x, 0, places, cr.ones(1, 1)), ValueError, "scatter: src has shape (1, 1) and the index (1, 3); src needs as many dimensions, none of them smaller; spread it with src.expand(index.shape)"),
    (lambda: cr.scatter(x, 0, places, cr.tensor(1.0)), ValueError, "scatter: src has shape () and the index (1, 3); src needs as many dimensions, none of them smaller"),
    (lambda: cr.scatter_add(x, 0, places, v), ValueError, "scatter_add: src has shape (3,) and the index (1, 3); src needs as many dimensions, none of them smaller; spread it with src.expand(index.shape)"),
    (lambda: cr.index_select(x, 0, cr.tensor([[0]])), ValueError, "index_select: received an index of shape (1, 1); it must be 1-d; gather takes others"),
    (lambda: cr.index_add(x, 0, cr.tensor([0]), cr.ones(2, 3)), ValueError, "index_add: the source has shape (2, 3); for 1 indices along 0 it must be (1, 3)"),
    (lambda: cr.take_along_dim(x, cr.tensor([0]), 0), ValueError, "take_along_dim: received shapes (2, 3) and (1,); they must have equally many dimensions"),
    (lambda: cr.masked_fill(x, cr.tensor([1, 0, 1]), 0), TypeError, "masked_fill: received a mask of dtype int64; a mask is bool; use mask != 0"),
    (lambda: cr.masked_select(x, cr.tensor([1, 0, 1])), TypeError, "masked_select: received a mask of dtype int64; a mask is bool; use mask != 0"),
    (lambda: cr.tril(v), ValueError, "tril: received shape (3,); a triangle is that of a matrix (at least 2 dimensions)"),
    (lambda: cr.triu(v), ValueError, "triu: received shape (3,); a triangle is that of a matrix (at least 2 dimensions)"),
    (lambda: cr.diag(cube), ValueError, "diag: received shape (2, 2, 2); pass a vector or a matrix"),
    (lambda: cr.one_hot(v), TypeError, "one_hot: received dtype float32; classes are integers; convert it with .long()"),
    (lambda: cr.one_hot(cr.tensor([], dtype=cr.int64)), ValueError, "one_hot: the number of classes of an empty tensor is unknown; pass num_classes"),
    (lambda: cr.one_hot(cr.tensor([3]), 2), ValueError, "one_hot: classes from 3 to 3 do not fit num_classes=2"),
    (lambda: cr.embedding(cr.tensor([0]), v), ValueError, "embedding: the weight has shape (3,); it must be (number of entries, width)"),
    (lambda: cr.embedding(cr.tensor([-1]), x), IndexError, "embedding: index -1 is negative; indices go from 0 to 1"),
    (lambda: cr.embedding(cr.tensor([2]), x), IndexError, "embedding: index 2 is outside dimension 0 of size 2; indices go from -2 to 1"),
    (lambda: cr.matmul(cr.tensor(1.0), x), ValueError, "matmul: received shapes () and (2, 3); a 0-d operand has no rows; use * to scale"),
    (lambda: cr.matmul(x, x), ValueError, "matmul: shapes (2, 3) and (2, 3) do not fit: the last size of the first, 3, must equal the second's 2; transpose one of them"),
    (lambda: cr.matmul(cr.ones(2, 2, 3), cr.ones(3, 3, 2)), ValueError, "matmul: the leading dimensions of (2, 2, 3) and (3, 3, 2) do not broadcast; each pair must be equal or hold a 1"),
    (lambda: cr.mm(x, v), ValueError, "mm: received shapes (2, 3) and (3,); it multiplies two matrices; matmul takes all ranks"),
    (lambda: cr.linear(x, v), ValueError, "linear: received weight (3,) and bias None; they must be (out, in) and (out,)"),
    (lambda: cr.linear(x, cr.ones(2, 3), cr.ones(3)), ValueError, "linear: received weight (2, 3) and bias (3,); they must be (out, in) and (out,)"),
    (lambda: cr.linear(x, cr.ones(2, 2)), ValueError, "linear: the input has shape (2, 3) and the weight (2, 2): the input's last size must be 2; check in_features or flatten the input"),
    (lambda: cr.bilinear(cr.ones(2, 3, 4), x, x), ValueError, "bilinear: received inputs of shapes (2, 3, 4) and (2, 3) for a weight of shape (2, 3); they must be (…, I), (…, J) and (O, I, J); check the order of the arguments"),
    (lambda: cr.bilinear(x, cr.ones(2, 1), cr.ones(4, 3, 2)), ValueError, "bilinear: received inputs of shapes (2, 3) and (2, 1) for a weight of shape (4, 3, 2); they must be (…, I), (…, J) and (O, I, J)"),
    (lambda: cr.bilinear(x, x, cr.ones(4, 3, 3), cr.ones(1)), ValueError, "bilinear: the bias has shape (1,); it must be (4,), one for each output"),
    (lambda: cr.einsum(x, "ij->ji"), TypeError, "einsum: received a Tensor as its equation, which is a string and comes first; call it as einsum('ij,jk->ik', x, y)"),
    (lambda: cr.einsum(["ij"], x), TypeError, "einsum: received a list as its equation, which is a string and comes first"),
    (lambda: cr.einsum("ij,jk", x), ValueError, "einsum: 'ij,jk' names 2 operands and 1 were passed"),
    (lambda: cr.einsum("ijk", x), ValueError, "einsum: 'ijk' of 'ijk' names 3 dimensions and operand 0 has shape (2, 3); write one label for each dimension, or ..."),
    (lambda: cr.einsum("ij,jk", x, cr.ones(2, 2)), ValueError, "einsum: label 'j' of 'ij,jk' has sizes 3 and 2; they must be equal"),
    (lambda: cr.einsum("ij->ijk", x), ValueError, "einsum: the result 'ijk' of 'ij->ijk' must name labels of the operands, each once"),
    (lambda: cr.trace(cube), ValueError, "trace: received shape (2, 2, 2); the trace is that of a matrix"),
    (lambda: cr.tensordot(x, cr.ones(3, 2), dims=2), ValueError, "tensordot: dimensions [0, 1] of shape (2, 3) and [0, 1] of shape (3, 2) do not have equal sizes in order; name pairs of dimensions of equal size"),
    (lambda: cr.mean(cr.tensor([1, 2])), TypeError, "mean: received a tensor of dtype int64; it is defined for floating tensors; use x.float() first"),
    (lambda: cr.amax(cr.ones(0, 2), 0), ValueError, "amax: received shape (0, 2), which has nothing along dimension (0,); an extreme needs one element"),
    (lambda: cr.argmax(cr.ones(0, 2), 0), ValueError, "argmax: received shape (0, 2), which has nothing along dimension (0,); an extreme needs one element"),
    (lambda: cr.norm(x, "nuc"), ValueError, "norm: received p='nuc'; it can be 'fro' or a number, inf included"),
    (lambda: cr.topk(cr.tensor(1.0), 1), ValueError, "topk: received a 0-d tensor, which has no dimension to choose along; use x.reshape(1)"),
    (lambda: cr.topk(x, 4), ValueError, "topk: received k=4 for 3 elements along dimension 1; pass 0 to 3"),
    (lambda: F.mse_loss(x, x, reduction="avg"), ValueError, "received reduction='avg'; it can be 'mean', 'sum' or 'none'"),
    (lambda: F.mse_loss(x, v), ValueError, "mse_loss: the input has shape (2, 3) and the target (3,); they must be equal, lest the loss broadcast unseen; reshape one of them"),
    (lambda: F.cross_entropy(cr.tensor(1.0), cr.tensor(0)), ValueError, "cross_entropy: received a 0-d input; it must be (C,) or (N, C, …)"),
    (lambda: F.cross_entropy(x, cr.tensor([0, 1]), label_smoothing=2.0), ValueError, "cross_entropy: received label_smoothing=2.0; it lies in [0, 1]"),
    (lambda: F.cross_entropy(x, cr.tensor([0, 1]), weight=cr.ones(2)), ValueError, "cross_entropy: the weight has shape (2,); it must be (3,), one for each class"),
    (lambda: F.cross_entropy(x, cr.tensor([0, 1, 2])), ValueError, "cross_entropy: the input has shape (2, 3), so class numbers must have shape (2,), and probabilities that of the input; received (3,)"),
    (lambda: F.cross_entropy(x, cr.tensor([True, False])), TypeError, "cross_entropy: received a bool target; class numbers are integers; convert it with .long()"),
    (lambda: F.cross_entropy(x, cr.tensor([0, 3])), IndexError, "cross_entropy: target 3 is not a class of logits with 3 classes: targets must lie in 0..2 or equal ignore_index=-100 (received shape (2, 3) of float32, shape (2,) of int64)"),
    (lambda: F.cross_entropy(x, cr.tensor([0, -1])), IndexError, "cross_entropy: target -1 is not a class of logits with 3 classes: targets must lie in 0..2 or equal ignore_index=-100 (received shape (2, 3) of float32, shape (2,) of int64)"),
    (lambda: F.nll_loss(x, cr.tensor([0, 3])), IndexError, "nll_loss: target class 3 is outside the 3 classes of the input of shape (2, 3); classes go from 0 to 2"),
    (lambda: F.cross_entropy(x, cr.ones(2, 2)), ValueError, "cross_entropy: probabilities of shape (2, 2) were given for an input of shape (2, 3); they must be equal; class numbers are integers"),
    (lambda: F.binary_cross_entropy(x * 2, x), ValueError, "binary_cross_entropy: the input holds 2.0 to 2.0; probabilities lie in [0, 1]; use binary_cross_entropy_with_logits for scores"),
    (lambda: F.batch_norm(v, None, None, training=True), ValueError, "batch_norm: received shape (3,); the input must be (N, C, …)"),
    (lambda: F.batch_norm(x, cr.ones(2), cr.ones(2)), ValueError, "batch_norm: running_mean has shape (2,), but the input of shape (2, 3) has 3 channels; it must be (3,)"),
    (lambda: F.batch_norm(x, None, None), ValueError, "batch_norm: with training=False the running mean and variance are needed; pass both"),
    (lambda: F.batch_norm(cr.ones(1, 3), None, None, training=True), ValueError, "batch_norm: the input of shape (1, 3) has one value per channel, whose variance is 0; train with larger batches, or call eval()"),
    (lambda: F.batch_norm([[1.0]], None, None, training=True), TypeError, "batch_norm: received a list as its input, which has no shape; pass a tensor, such as cr.tensor(…) of numbers"),
    (lambda: F.layer_norm([[1.0]], 1), TypeError, "layer_norm: received a list as its input, which has no shape; pass a tensor, such as cr.tensor(…) of numbers"),
    (lambda: F.group_norm([[1.0]], 1), TypeError, "group_norm: received a list as its input, which has no shape; pass a tensor, such as cr.tensor(…) of numbers"),
    (lambda: F.batch_norm(x, v, v, eps="a"), TypeError, "batch_norm: received eps='a'; it is added to a variance, whose root divides: pass a number, such as 1e-5"),
    (lambda: F.layer_norm(x, 3, eps=None), TypeError, "layer_norm: received eps=None; it is added to a variance, whose root divides: pass a number, such as 1e-5"),
    (lambda: F.group_norm(x, 3, eps="a"), TypeError, "group_norm: received eps='a'; it is added to a variance, whose root divides: pass a number, such as 1e-5"),
    (lambda: F.group_norm(x, "3"), TypeError, "group_norm: received num_groups='3'; it counts the groups of an item's channels; pass an integer"),
    (lambda: F.group_norm(x, 1.0), TypeError, "group_norm: received num_groups=1.0; it counts the groups of an item's channels; pass an integer"),
    (lambda: F.group_norm(x, 2), ValueError, "group_norm: received shape (2, 3) and num_groups=2; the input must be (N, C, …), and num_groups divide C"),
    (lambda: F.group_norm(x, 3, cr.ones(2)), ValueError, "group_norm: the weight has shape (2,); it must be (3,)"),
    (lambda: F.layer_norm(x, (2,)), ValueError, "layer_norm: normalized_shape=(2,) does not name the last sizes of the input of shape (2, 3); they must be equal"),
    (lambda: F.layer_norm(x, (3,), cr.ones(2)), ValueError, "layer_norm: the weight has shape (2,); it must be normalized_shape, (3,)"),
    (lambda: F.dropout(x, 1.5), ValueError, "dropout: received p=1.5; a probability lies in [0, 1]"),
    (lambda: F.conv2d(x, cr.ones(1, 1, 2, 2)), ValueError, "conv2d: received an input of shape (2, 3) and a weight of shape (1, 1, 2, 2); the input must be (N, C, H, W) or (C, H, W) and the weight have 4 dimensions"),
    (lambda: F.conv2d(image, cr.ones(3, 1, 2, 2), groups=2), ValueError, "conv2d: groups=2 must be at least 1 and divide the channels; the input has 2 and the weight 3 in its first dimension"),
    (lambda: F.conv2d(image, cr.ones(3, 1, 2, 2)), ValueError, "conv2d: the input of shape (1, 2, 4, 4) has 2 channels, but the weight of shape (3, 1, 2, 2) with groups=1 expects 1; change in_channels or the input"),
    (lambda: F.conv2d(image, cr.ones(3, 2, 2, 2), cr.ones(2)), ValueError, "conv2d: the bias has shape (2,); it must be (3,), one number for each output channel"),
    (lambda: F.conv2d(image, cr.ones(3, 2, 5, 5)), ValueError, "convolution kernel (5, 5) with dilation (1, 1) reaches over (5, 5), but the input of size (4, 4) is (4, 4) with padding: use a smaller kernel, more padding or a larger input"),
    (lambda: F.conv2d(image, cr.ones(3, 2, 2, 2), padding="same", stride=2), ValueError, 'padding="same" with stride=(2, 2) has no defined size: use stride=1 or ints'),
    (lambda: F.conv2d(image, cr.ones(3, 2, 2, 2), stride=(1, 1, 1)), ValueError, "stride=(1, 1, 1) has 3 entries, but two axes need one int or two: pass a pair"),
    (lambda: F.conv2d(image, cr.ones(3, 2, 2, 2), stride=0), ValueError, "stride=0 is too small: every entry must be at least 1"),
    (lambda: cr.autograd.linear_act(x, x, activation="elu"), ValueError, "linear_act: received activation='elu'; it can be 'relu', 'tanh', 'sigmoid'; compose others of operations of their own"),
    (lambda: cr.autograd.conv2d_act_pool(image, cr.ones(3, 2, 2, 2), activation=""), ValueError, "conv2d_act_pool: received activation=''; it can be 'relu', 'tanh', 'sigmoid'; compose others of operations of their own"),
    (lambda: cr.autograd.conv2d_act_pool(image, cr.ones(3, 2, 2, 2), pool=("max", 32, 32)), ValueError, "conv2d_act_pool: received pool=('max', 32, 32); it can be None, or ('max', kh, kw) or ('avg', kh, kw) with at most 256 elements in a window; pool others by an operation of its own"),
    (lambda: cr.autograd.conv2d_act_pool(image, cr.ones(3, 2, 2, 2), pool=("avg", 4, 4)), ValueError, "pooling kernel (4, 4) with dilation (1, 1) reaches over (4, 4), but the input of size (3, 3) is (3, 3) with padding: use a smaller kernel, more padding or a larger input"),
    (lambda: F.conv2d(image, cr.ones(3, 2, 2, 2), padding="full"), ValueError, "padding='full' is not known: use \"same\", \"valid\", an int or a pair of ints"),
    (lambda: F.conv1d(cr.ones(1, 2, 4), cr.ones(1, 1, 2)), ValueError, "conv1d: the input of shape (1, 2, 4) has 2 channels, but the weight of shape (1, 1, 2) with groups=1 expects 1; change in_channels or the input"),
    (lambda: F.conv1d(cr.ones(1, 2, 4), cr.ones(1, 2, 2), stride=(1, 1)), ValueError, "stride=(1, 1) has 2 entries, but there is one axis: pass an int"),
    (lambda: cr.autograd.conv1d_max(cr.ones(1, 2, 4), cr.ones(3, 1, 2)), ValueError, "conv1d_max: received an input of shape (1, 2, 4) and a weight of shape (3, 1, 2); they must be (N, C, L) and (O, C, k) with the same channels C"),
    (lambda: cr.autograd.conv1d_max(cr.ones(1, 2, 4), cr.ones(3, 2, 5)), ValueError, "conv1d_max: a filter of width 5 has no place in a sequence of length 4; pad the input, or take a narrower filter"),
    (lambda: cr.autograd.conv1d_max(cr.ones(1, 2, 4), cr.ones(3, 2, 2), cr.ones(2)), ValueError, "conv1d_max: the bias has shape (2,); it must be (3,), one number for each filter"),
    (lambda: F.conv_transpose2d(image, cr.ones(3, 2, 2, 2)), ValueError, "conv_transpose2d: the input of shape (1, 2, 4, 4) has 2 channels, but the weight of shape (3, 2, 2, 2) expects 3; change in_channels or the input"),
    (lambda: F.conv_transpose2d(image, cr.ones(2, 2, 2, 2), padding="same"), ValueError, "conv_transpose2d: received padding='same'; a transpose takes numbers only"),
    (lambda: F.conv_transpose2d(image, cr.ones(2, 2, 2, 2), output_padding=1), ValueError, "output_padding=(1, 1) does not fit stride=(1, 1) and dilation=(1, 1): each entry must be at least 0 and below its stride or its dilation"),
    (lambda: F.max_pool2d(x, 2), ValueError, "max_pool2d: received shape (2, 3); the input must be (N, C, H, W) or (C, H, W)"),
    (lambda: F.max_pool1d(x[0], 2), ValueError, "max_pool1d: received shape (3,); the input must be (N, C, L) or (C, L)"),
    (lambda: F.max_pool2d(image, 2, padding=2), ValueError, "padding=2 is more than half of kernel_size=(2, 2): some window would hold nothing but padding; pad less"),
    (lambda: F.max_pool2d(image, 5), ValueError, "pooling kernel (5, 5) with dilation (1, 1) reaches over (5, 5), but the input of size (4, 4) is (4, 4) with padding: use a smaller kernel, more padding or a larger input"),
    (lambda: F.avg_pool2d(image, 2, divisor_override=0), ValueError, "avg_pool2d: received divisor_override=0; a sum cannot be divided by it; pass another number or None"),
    (lambda: F.adaptive_avg_pool2d(image, -1), ValueError, "output_size=(-1, -1) is too small: every entry must be at least 1"),
    (lambda: cr.sum(x, "a"), TypeError, "sum: received dim='a'; a dimension is named by an integer"),
    (lambda: lstm(batch_sizes=()), ValueError, "lstm_sequence: received batch_sizes (); they are the numbers of sequences that have a first, second, … step: positive integers that never grow"),
    (lambda: lstm(batch_sizes=(3, 0)), ValueError, "lstm_sequence: received batch_sizes (3, 0); they are the numbers of sequences that have a first, second, … step: positive integers that never grow"),
    (lambda: gru(batch_sizes=[1, 2]), ValueError, "gru_sequence: received batch_sizes (1, 2); they are the numbers of sequences that have a first, second, … step: positive integers that never grow"),
    (lambda: gru(batch_sizes=None), ValueError, "gru_sequence: received batch_sizes (None,); they are the numbers of sequences"),
    (lambda: gru(batch_sizes="21"), ValueError, "gru_sequence: received batch_sizes ('2', '1'); they are the numbers of sequences"),
    (lambda: gru(batch_sizes=(1.5, 1.5)), ValueError, "gru_sequence: received batch_sizes (1.5, 1.5); they are the numbers of sequences"),
    (lambda: rnn(batch_sizes=(1,) * 9 + (2,)), ValueError, "rnn_sequence: received batch_sizes (1, 1, 1, 1, …, 2); they are the numbers of sequences"),
    (lambda: rnn(x=x), ValueError, "rnn_sequence: received x of shape (2, 3) for batch_sizes (2, 1); it needs their sum, 3, as its number of rows, one for each step of each sequence"),
    (lambda: gru(x=v), ValueError, "gru_sequence: received x of shape (3,) for batch_sizes (2, 1); it needs their sum, 3, as its number of rows, one for each step of each sequence"),
    (lambda: rnn(h0=v), ValueError, "rnn_sequence: received h0 of shape (3,); it must be (2, H), a row for each sequence"),
    (lambda: gru(h0=cr.ones(3, 2)), ValueError, "gru_sequence: received h0 of shape (3, 2); it must be (2, H), a row for each sequence"),
    (lambda: rnn(w_ih=cr.ones(2, 3)), ValueError, "rnn_sequence: received w_ih of shape (2, 3); with the other inputs it must be (2, 4)"),
    (lambda: lstm(w_hh=cr.ones(2, 8)), ValueError, "lstm_sequence: received w_hh of shape (2, 8); with the other inputs it must be (8, 2)"),
    (lambda: gru(b_ih=cr.ones(2)), ValueError, "gru_sequence: received b_ih of shape (2,); with the other inputs it must be (6,)"),
    (lambda: gru(b_hh=cr.ones(1, 6)), ValueError, "gru_sequence: received b_hh of shape (1, 6); with the other inputs it must be (6,)"),
    (lambda: lstm(c0=cr.ones(1, 2)), ValueError, "lstm_sequence: received c0 of shape (1, 2); with the other inputs it must be (2, 2)"),
    (lambda: lstm(peephole=cr.ones(2, 3)), ValueError, "lstm_sequence: received peephole of shape (2, 3); with the other inputs it must be (3, 2)"),
    (lambda: rnn(nonlinearity="sigmoid"), ValueError, "rnn_sequence: received nonlinearity='sigmoid'; pass 'tanh' or 'relu'"),
    (lambda: tree([[0, 1]], (2, 2)), ValueError, "rnn_tree: received leaves, weight, bias and children of shapes [(2, 2), (2, 4), None, (1, 2)] for sizes=(2, 2); they must be (L, H), (H, 2H), (H,) or None, and (P, 2), L being the first of the sizes and P the sum of the others"),
    (lambda: tree([[0, 0]], (2, 1)), ValueError, "rnn_tree: a node is the child of two parents; in a tree each node has one at most"),
    (lambda: tree([[0, 2]], (2, 1)), ValueError, "rnn_tree: a predecessor's row lies at or above the level that it feeds, or below 0; order the cells by level"),
    (lambda: graph([0], [1], ((2, 0), (1, 2))), ValueError, "lstm_graph: received gates, weight, sources and slots of shapes ((3, 8), (8, 2), (1,), (1,)) for 3 cells and 2 edges, 0 of them into level 0; they must be (M, 4H) or (M, (3 + N)H), ((3 + N)H, N H), (E,) and (E,), with no edges into level 0"),
    (lambda: graph([0], [1], ((2, 0), (1, 1))), ValueError, "lstm_graph: a slot lies in a cell of another level than its edge; order the edges by level"),
    (lambda: cr.adaptive_max_pool1d(v, 2), ValueError, "adaptive_max_pool1d: received shape (3,); the input must be (N, C, L) or (C, L)"),
]
# fmt: on


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[message[:60] for *_, message in ERRORS])
def test_message(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)


def raised():
    """(where, the fixed parts of the message) of every raise in autograd/ops."""
    for path in sorted(OPS.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield f"{path.name}:{node.lineno}", list(fixed(node.exc.args[0]))


def fixed(node):
    """The literal stretches of a string expression, outside its {…}."""
    if isinstance(node, ast.Constant):
        yield node.value
    for part in getattr(node, "values", ()):
        yield from fixed(part) if isinstance(part, ast.Constant) else ()


def in_order(parts, text):
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def test_every_raise_is_in_the_table():
    messages = [message for *_, message in ERRORS]
    unproven = [f"{where}: {parts}" for where, parts in raised() if not any(in_order(parts[-2:], m) for m in messages)]
    assert not unproven, "\n".join(unproven)


def test_the_raises_were_found():
    assert len(list(raised())) > 80
    assert in_order(["a", "c"], "abc") and not in_order(["c", "a"], "abc")
