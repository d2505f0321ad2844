// expect: (?s)(?=.*must not be or hold a pointer)(?=.*an index or an offset)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/sharedctypes.hpp>

struct Row {
    int length;
    const double* cells;
};

int main() { const multiprocessing::Array<Row> rows(3); }
