#!/usr/bin/env python3
"""Plants one wrong arrow after the other and expects layering.py to find each.

    layering_test.py
"""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import layering  # noqa: E402


class LinksTest(unittest.TestCase):
    def wrong(self, line):
        return layering.check_links(line)[0]

    def test_allowed_links(self):
        self.assertEqual(self.wrong('lectern_engine: lectern::base lectern::model_api absl::time'), [])
        self.assertEqual(self.wrong('lectern_f32: libtorch::cpu lectern::model_api'), [])
        self.assertEqual(self.wrong('some_test: lectern::app libtorch::cpu'), [])

    def test_planted_links(self):
        for line in ('lectern_engine: lectern::base libtorch::cpu',
                     'lectern_engine: lectern::proto',
                     'lectern_engine: lectern_model',
                     'lectern_kernels: absl::base',
                     'lectern_kernels: lectern::base',
                     'lectern_model: PkgConfig::GRPCPP',
                     'lectern_base: lectern::metrics',
                     'lectern_base: lectern::protocol',
                     'lectern_protocol: lectern::proto',
                     'lectern_tokenizer: lectern::protocol',
                     'lectern_client: lectern::engine',
                     'lectern_rpc: lectern::app',
                     'lectern_tokenizer: /usr/lib/libsomething.so'):
            self.assertEqual(len(self.wrong(line)), 1, line)


class IncludesTest(unittest.TestCase):
    def wrong(self, path, header):
        with tempfile.TemporaryDirectory() as root:
            file = os.path.join(root, path)
            os.makedirs(os.path.dirname(file))
            with open(file, 'w', encoding='utf-8') as out:
                out.write(f'#pragma once\n#include <vector>\n#include "{header}"\n')
            return layering.check_includes(root)[0]

    def test_allowed_includes(self):
        for path, header in (('server/model/f32_product/a.cc', 'ATen/core/Tensor.h'),
                             ('server/engine/documents/a.cc', 'server/model/model.h'),
                             ('server/rpc/call/a.cc', 'grpcpp/server.h'),
                             ('server/main.cc', 'server/app/server.h'),
                             ('client/cli/a.cc', 'lectern/client.h'),
                             ('client/cpp/include/lectern/a.h', 'lectern/call_options.h'),
                             ('client/cpp/include/lectern/a.h', 'lectern/v1/ask.pb.h'),
                             ('client/cpp/include/lectern/a.h', 'absl/status/status.h'),
                             ('protocol/a.cc', 'base/hashing/sha256.h'),
                             ('client/cpp/a.cc', 'protocol/metadata.h'),
                             ('kernels/linear/a.cc', 'kernels/rows/b.h')):
            self.assertEqual(self.wrong(path, header), [], (path, header))

    def test_planted_includes(self):
        for path, header in (('server/engine/a.h', 'ATen/core/Tensor.h'),
                             ('server/engine/a.cc', 'lectern/v1/ask.pb.h'),
                             ('server/engine/a.cc', 'server/model/decoder/decoder_model.h'),
                             ('server/model/decoder/families/a.cc',
                              'server/model/decoder/decoder_weights.h'),
                             ('server/model/a.cc', 'grpcpp/server.h'),
                             ('server/model/a.cc', 'server/engine/engine.h'),
                             ('server/tokenizer/a.cc', 'torch/torch.h'),
                             ('server/model/a.cc', 'ATen/core/Tensor.h'),
                             ('kernels/a.h', 'absl/status/status.h'),
                             ('kernels/a.cc', 'base/log.h'),
                             ('kernels/a.cc', 'c10/util/Half.h'),
                             ('server/rpc/a.cc', 'server/app/options.h'),
                             ('server/engine/documents/a.cc', 'server/engine/answering/evidence.h'),
                             ('server/engine/answering/sampler.cc',
                              'server/engine/answering/strategies/answer_strategy.h'),
                             ('server/engine/answering/strategies/a.cc',
                              'server/engine/answering/answer_job.h'),
                             ('base/a.cc', 'protocol/metadata.h'),
                             ('protocol/a.h', 'client/cpp/client.h'),
                             ('protocol/a.h', 'server/engine/api.h'),
                             ('server/model/a.cc', 'protocol/reasons.h'),
                             ('bench/a.cc', 'server/app/server.h'),
                             ('server/rpc/call/a.cc', 'lectern/client.h'),
                             ('client/cpp/include/lectern/a.h', 'grpcpp/channel.h'),
                             ('client/cpp/include/lectern/a.h', 'base/error_details.h'),
                             ('client/cpp/include/lectern/a.h', 'client/cpp/channels.h'),
                             ('client/a.cc', 'server/rpc/call/grpc_status.h')):
            self.assertEqual(self.wrong(path, header), [f'{path}:3 includes {header}'])


class RoomsTest(unittest.TestCase):
    def test_the_table_has_no_circle(self):
        self.assertEqual(layering.check_rooms(), [])

    def test_planted_circle(self):
        table = layering.INCLUDES
        layering.INCLUDES = [('a/', ('a/', 'b/')), ('b/', ('b/', 'c/')), ('c/', ('c/', 'a/'))]
        try:
            self.assertEqual(layering.check_rooms(), ['a/ -> b/ -> c/ -> a/'])
        finally:
            layering.INCLUDES = table

    def test_planted_crowd(self):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, 'base'))
            for number in range(layering.MAX_FILES + 1):
                open(os.path.join(root, 'base', f'{number}.h'), 'w', encoding='utf-8').close()
            self.assertEqual(len(layering.check_folder_sizes(root)), 1)


if __name__ == '__main__':
    unittest.main()
