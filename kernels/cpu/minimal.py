"""Winograd's minimal filtering F(m, r): m results of r taps from m + r - 1 numbers, by as many multiplications.

The results are Aᵀ ((G g) ⊙ (Bᵀ d)) for numbers d and taps g, by polynomials at 0, 1, -1 and infinity, and at 2 and -2
where there are six products. Each matrix is a formula for whatever has arithmetic, the compiler's vectors or an array's
rows.
"""

from functools import cache

import numpy as np


class Form:
    """F(side × side, taps × taps): the same formulas in both dimensions, as instructions, loops and matrices need them.

    They give Bᵀ d of numbers d, A y of results y, Aᵀ m of products m, and G g of taps g.
    reach: numbers of a tile's side. products: multiplications for a tile, each a matrix product over the channels.
    groups: how many columns of a tile lie under the same column of other tiles.
    """

    def __init__(self, side, taps, of_numbers, of_results, to_results, of_taps):
        self.side, self.taps, self.reach = side, taps, side + taps - 1
        self.products, self.groups = self.reach**2, -(-self.reach // side)
        self.of_numbers, self.of_results, self.to_results, self.of_taps = of_numbers, of_results, to_results, of_taps


@cache
def matrix(formula, count, dtype):
    """The matrix by which a formula multiplies `count` numbers."""
    return np.array(formula(*np.eye(count))).astype(dtype)


def _four_of_numbers(a, b, c, d):
    return a - c, b + c, c - b, d - b


def _four_of_two(a, b):
    return a, a + b, a - b, b


def _four_to_two(a, b, c, d):
    return a + b + c, b - c + d


def _four_of_three(a, b, c):
    p, q = (a + c) * 0.5, b * 0.5
    return a, p + q, p - q, c


def _six_of_numbers(a, b, c, d, e, f):
    p, q, r, s = e - 4 * c, d - 4 * b, e - c, 2 * (d - b)
    return 4 * a - 5 * c + e, p + q, p - q, r + s, r - s, 4 * b - 5 * d + f


def _six_of_four(a, b, c, d):
    p, q, r, s = a + c, b + d, a + 4 * c, 2 * b + 8 * d
    return a, p + q, p - q, r + s, r - s, d


def _six_to_four(a, b, c, d, e, f):
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + 2 * s, p + 4 * r, q + 8 * s + f


def _six_of_three(a, b, c):
    p, q, r, s = (a + c) * (-1 / 6), b * (1 / 6), a * (1 / 24) + c * (1 / 6), b * (1 / 12)
    return a * (1 / 4), p - q, p + q, r + s, r - s, c


def _six_of_two(a, b):
    c = 2 * b
    return a, a + b, a - b, a + c, a - c, b


def _six_to_two(a, b, c, d, e, f):
    return a + (b + c) + (d + e), (b - c) + 2 * (d - e) + f


def _six_of_five(a, b, c, d, e):
    p, q = (a + c + e) * (-1 / 6), (b + d) * (1 / 6)
    r, s = a * (1 / 24) + c * (1 / 6) + e * (2 / 3), b * (1 / 12) + d * (1 / 3)
    return a * (1 / 4), p - q, p + q, r + s, r - s, e


F23 = Form(2, 3, _four_of_numbers, _four_of_two, _four_to_two, _four_of_three)
F43 = Form(4, 3, _six_of_numbers, _six_of_four, _six_to_four, _six_of_three)
F25 = Form(2, 5, _six_of_numbers, _six_of_two, _six_to_two, _six_of_five)
