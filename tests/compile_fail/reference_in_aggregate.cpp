// expect: (?s)(?=.*a reference cannot be sent to another process)(?=.*explain.*long( int)? ?&)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

struct View {
    int id;
    const long& number;
};

int main() {
    long number = 5;
    multiprocessing::dumps(View{1, number});
}
