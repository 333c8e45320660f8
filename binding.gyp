{
  # One static library per kernel target with its own flags; the addon and the native test link all of them.
  "variables": {
    "tests%": 0,
    "common_sources": [
      "native/engine/engine.cc", "native/engine/kv_payload.cc", "native/engine/sampling.cc", "native/engine/score.cc", "native/engine/sequence.cc",
      "native/engine/vocabulary.cc",
      "native/io/fault.cc", "native/io/io_engine.cc", "native/io/mmap.cc", "native/io/pool.cc", "native/io/queue.cc",
      "native/io/uring.cc",
      "native/kernels/dispatch.cc",
      "native/load/gguf.cc", "native/base/mapping_guard.cc",
      "native/model/attention.cc", "native/model/compressor.cc", "native/model/forward.cc", "native/model/inspect.cc",
      "native/model/moe.cc", "native/model/rope.cc", "native/model/state.cc", "native/model/weights.cc",
      "native/parallel/workers.cc",
      "native/quant/dequant.cc",
      "native/store/append.cc", "native/store/checksum.cc", "native/store/directory.cc", "native/store/read.cc",
      "native/store/reclaim.cc", "native/store/record.cc", "native/store/recovery.cc", "native/store/store.cc",
      "native/synth/synth.cc"
    ]
  },
  "target_defaults": {
    "cflags!": ["-O2", "-fno-omit-frame-pointer"],
    "cflags": ["-O3", "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-ffp-contract=off", "-fvisibility=hidden", "-ffunction-sections"],
    # Node 20's common.gypi asks for C++17, newer ones for C++20 by another name.
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++20", "-fno-exceptions", "-fno-rtti"],
    "ldflags": ["-Wl,--gc-sections", "-pthread"]
  },
  "targets": [
    {
      "target_name": "kernels_scalar",
      "type": "static_library",
      "sources": ["native/kernels/targets/scalar/scalar.cc"]
    },
    {
      "target_name": "nandu",
      "sources": ["native/binding/addon.cc", "native/binding/handles.cc", "native/binding/kv_store.cc", "native/binding/synth_options.cc", "<@(common_sources)"],
      # A job may end after its environment stopped running JavaScript: its promise then goes unheard, which is no reason to abort.
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      # Stays loaded when the worker thread that loaded it ends: a signal handler points into it.
      "ldflags": ["-Wl,-z,nodelete"],
      "dependencies": ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api", "kernels_scalar"],
      "conditions": [["target_arch=='x64'", {"dependencies": ["kernels_avx2", "kernels_avx512", "kernels_amx"]}]]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "kernels_avx2",
          "type": "static_library",
          "sources": ["native/kernels/targets/avx2/avx2.cc"],
          "cflags": ["-mavx2", "-mfma", "-mf16c"]
        },
        {
          "target_name": "kernels_avx512",
          "type": "static_library",
          "sources": ["native/kernels/targets/avx512/avx512.cc"],
          "cflags": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512vbmi"]
        },
        {
          # The tile instructions are written as assembly: no flag of their own.
          "target_name": "kernels_amx",
          "type": "static_library",
          "sources": ["native/kernels/targets/amx/amx.cc"],
          "cflags": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512vbmi"]
        }
      ]
    }],
    ["tests==1", {
      "targets": [{
        "target_name": "nandu_native_test",
        "type": "executable",
        "defines": ["NANDU_TEST_HOOKS"],
        "sources": ["<!@(node -p \"require('fs').readdirSync('test/native').filter(f=>f.endsWith('.cc')).map(f=>'test/native/'+f).join(' ')\")", "<@(common_sources)"],
        "dependencies": ["kernels_scalar"],
        "conditions": [["target_arch=='x64'", {"dependencies": ["kernels_avx2", "kernels_avx512", "kernels_amx", "kernels_amx_emulated"]}]]
      }]
    }],
    ["tests==1 and target_arch=='x64'", {
      "targets": [{
        "target_name": "kernels_amx_emulated",
        "type": "static_library",
        "sources": ["test/native/emulated/amx_emulated.cc"],
        "cflags": ["-mavx2", "-mfma", "-mf16c"]
      }]
    }]
  ]
}
