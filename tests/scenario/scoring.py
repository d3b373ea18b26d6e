"""Words as they are compared: lower case, no punctuation, numbers spelt out; and how two rows of them differ."""

import re

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def spell(number):
    """Below a hundred as it is said, above it digit by digit."""
    value = int(number)
    if value < 20:
        return ONES[value]
    if value < 100:
        return " ".join([TENS[value // 10 - 2]] + ([ONES[value % 10]] if value % 10 else []))
    return " ".join(ONES[int(digit)] for digit in number)


def words_of(text):
    text = re.sub(r"[0-9]+", lambda match: f" {spell(match.group())} ", text.lower().replace("’", "'"))
    return re.sub(r"[^a-z' ]", " ", text).split()


def align(a, b):
    """(how many words differ, [(index in a, index in b)] of those that are the same)."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (x != y)))
        rows.append(row)
    same, i, j = [], len(a), len(b)
    while i > 0 and j > 0:
        if rows[i][j] == rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]):
            i, j = i - 1, j - 1
            if a[i] == b[j]:
                same.append((i, j))
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return rows[-1][-1], same[::-1]


def distance(a, b):
    return align(a, b)[0]
