// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing.hpp>

#include <string>

std::string read_greeting(multiprocessing::Queue<std::string>& queue);

std::string read_greeting(multiprocessing::Queue<std::string>& queue) { return queue.get(); }
