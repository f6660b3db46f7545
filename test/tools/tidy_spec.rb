# frozen_string_literal: true

require "fileutils"
require "open3"
require "tmpdir"

load File.expand_path("../../tools/tidy", __dir__)

# Every rule against a small tree that keeps them all, and against that tree with one thing wrong.
RSpec.describe Tidy do
  around do |example|
    Dir.mktmpdir do |root|
      @root = root
      FileUtils.cp(File.expand_path("../../.clang-format", __dir__), root)
      write("libkino/include/kino.h", HEADER)
      write("libkino/src/base/thing.h", "#include \"kino.h\"\n")
      write("libkino/src/server/thing.c", <<~C)
        #include <stddef.h>

        #include "base/thing.h"

        __attribute__((visibility("default"))) int kino_do(int *out)
        {
            return out == NULL ? -1 : 0;
        }
      C
      write("libkino/sources.txt", "# All of them.\nsrc/server/thing.c # one\n")
      write("libkino/examples/hello.c", "#include <kino.h>\n")
      write("tools/greet", "#!/bin/sh\nif true; then echo hello; fi\n")
      write("tools/count", "#!/usr/bin/env ruby\nputs 1\n")
      write("bindings/ruby/Rakefile", "task(:default) { puts 1 }\n")
      example.run
    end
  end

  HEADER = <<~C
    #ifndef KINO_H
    #define KINO_H
    #ifdef __cplusplus
    extern "C" {
    #endif

    struct kino_pair {
        int first;
        int second;
    };

    /**
     * Do it.
     *
     * Threads: any.
     * Errors:  none.
     */
    int kino_do(int *out);

    #ifdef __cplusplus
    }
    #endif
    #endif
  C

  def write(path, text)
    path = File.join(@root, path)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
  end

  def library
    path = File.join(@root, "libkino.so")
    sources = Dir.glob("libkino/src/**/*.c", base: @root)
    out, status = Open3.capture2e(*%w[cc -shared -fPIC -fvisibility=hidden -Ilibkino/include],
                                  *%w[-Ilibkino/src -o], path, *sources, chdir: @root)
    status.success? ? path : raise(out)
  end

  def complaints(*rules)
    tidy = described_class.new(@root, library: method(:library))
    rules.each { tidy.public_send(_1) }
    tidy.complaints
  end

  it "has nothing to say of a tidy tree" do
    expect(complaints(*described_class::RULES)).to eq []
  end

  it "complains about an upward include, in whatever brackets" do
    write("libkino/src/base/thing.h", "#include \"server/conn.h\"\n#include <io/io.h>\n")
    expect(complaints(:includes)).to eq [
      "libkino/src/base/thing.h:1: includes: base may not include server/conn.h",
      "libkino/src/base/thing.h:2: includes: base may not include io/io.h"
    ]
  end

  it "complains about a room beside, but for the head in an exchange" do
    write("libkino/src/dispatch/lane.h", "#include \"http/head.h\"\n#include \"http/http1.h\"\n")
    expect(complaints(:includes))
      .to eq ["libkino/src/dispatch/lane.h:2: includes: dispatch may not include http/http1.h"]
  end

  it "complains about a room that is in no table, and an include without its room" do
    write("libkino/src/cellar/thing.h", "#include \"base/thing.h\"\n")
    write("libkino/src/io/thing.h", "#include \"other.h\"\n")
    expect(complaints(:includes)).to eq [
      "libkino/src/cellar/thing.h:1: includes: cellar may not include base/thing.h",
      "libkino/src/io/thing.h:1: includes: io may not include other.h"
    ]
  end

  it "complains about an example or integration test that looks inside" do
    write("libkino/examples/hello.c", "#include <kino.h>\n#include <base/thing.h>\n")
    write("test/integration/test_it.c", "#include \"support/test.h\"\n#include \"base/thing.h\"\n")
    write("test/install/it.c", "#include <kino.h>\n#include \"support/test.h\"\n")
    expect(complaints(:includes)).to eq [
      "libkino/examples/hello.c:2: includes: libkino/examples may not include base/thing.h",
      "test/install/it.c:2: includes: test/install may not include support/test.h",
      "test/integration/test_it.c:2: includes: test/integration may not include base/thing.h"
    ]
  end

  it "complains about a public function without its whole comment" do
    write("libkino/include/kino.h", HEADER.sub(/^.*Threads:.*\n/, ""))
    expect(complaints(:comments))
      .to eq ["libkino/include/kino.h:17: comments: kino_do has no comment with Threads:"]
  end

  it "does not take the comment of one function for that of the next" do
    write("libkino/include/kino.h", HEADER.sub("(int *out);", "(int *out);\nint kino_more(void);"))
    expect(complaints(:comments)).to eq [
      "libkino/include/kino.h:19: comments: kino_more has no comment with Threads: and Errors:"
    ]
  end

  it "complains about a function that is declared but not exported" do
    write("libkino/include/kino.h", HEADER.sub("kino_do", "kino_undo"))
    expect(complaints(:exports)).to include(
      "libkino/include/kino.h:18: exports: kino_undo is declared, but libkino.so does not export it"
    )
  end

  it "complains about an exported symbol that is not declared" do
    write("libkino/src/base/leak.c", "__attribute__((visibility(\"default\"))) int kn_leak;\n")
    expect(complaints(:exports)).to eq [
      "libkino/include/kino.h:1: exports: libkino.so exports kn_leak, which is not declared"
    ]
  end

  it "complains about a source that is not listed, and a listed one that is not there" do
    write("libkino/src/base/new.c", "\n")
    write("libkino/sources.txt", "src/server/thing.c\nsrc/base/old.c\n")
    expect(complaints(:sources)).to eq [
      "libkino/sources.txt:2: sources: src/base/old.c does not exist",
      "libkino/src/base/new.c:1: sources: is missing in libkino/sources.txt"
    ]
  end

  it "complains about code that is not formatted" do
    write("libkino/src/base/thing.h", "#include \"kino.h\"\nint kn_x( void ) ;\n")
    expect(complaints(:format))
      .to eq ["libkino/src/base/thing.h:2: format: clang-format would have it otherwise"]
  end

  it "complains about padding in a public struct, as C and as C++" do
    write("libkino/include/kino.h", HEADER.sub("int second", "long second"))
    expect(complaints(:header)).to match [
      a_string_matching(/\Alibkino.include.kino\.h:9: header: padding struct.* \(c11\)\z/),
      a_string_matching(/\Alibkino.include.kino\.h:9: header: padding struct.* \(c\+\+17\)\z/)
    ]
  end

  it "complains about a header that needs another one before it" do
    write("libkino/include/kino.h", HEADER.sub("int first", "size_t first"))
    expect(complaints(:header)).to include a_string_including("unknown type name 'size_t'")
  end

  it "complains about a shell script that does not parse" do
    write("tools/greet", "#!/bin/sh\nif true; then echo hello\n")
    expect(complaints(:shell)).to match [a_string_matching(/\Atools.greet:\d+: shell: /)]
  end

  it "complains about Ruby that does not parse, or warns, with a suffix or without" do
    write("tools/count", "#!/usr/bin/env ruby\ndef f = (x = 1)\n")
    write("bindings/ruby/Rakefile", "task(:default) {\n")
    expect(complaints(:ruby)).to match [
      a_string_matching(%r{\Abindings/ruby/Rakefile:\d+: ruby: }),
      a_string_matching(/\Atools.count:2: ruby: .*unused variable - x/)
    ]
  end
end
