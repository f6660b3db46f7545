# frozen_string_literal: true

require "open3"
require "tempfile"

load File.expand_path("../../tools/man", __dir__)

RSpec.describe Man do
  KINO_H = File.expand_path("../../libkino/include/kino.h", __dir__)

  def page(text)
    header = Man::Header.new(text)
    Man::Page.new(header, title: "kino", version: "1.2.3", date: "2000-01-01").to_s
  end

  # The part of a page below a heading, without the macros that set it.
  def part(page, heading) = page[/^\.S[HS] #{heading}\n(.*?)(?=^\.S[HS]|\z)/m, 1]

  let(:small) { <<~C }
    /* SPDX-License-Identifier: MIT */
    /**
     * libkino: a small thing. It has one
     * paragraph.
     *
     *     kino_do -> kino_do
     *
     * And another - with `kino_do (x)`.
     */
    #define KINO_VERSION_MAJOR 0
    /** None at all. */
    #define KINO_OFF UINT64_MAX

    struct kino_thing; /* shared; freed by nobody */

    /** How it went. */
    enum kino_outcome {
        KINO_WELL = 1 << 0, /* as it should */
        KINO_ILL =
            -5, /* as it should
                 * not */
    };

    /** What it is made of. */
    struct kino_part {
        uint64_t size;
        /* One, then the other. */
        const char *first;
        uint64_t second;
        uint64_t third; /* alone */
        uint64_t fourth;
        void (*done)(void *context); /* called once, at "its" end */
        char name[16];
    };

    /** Called with a `thing`. */
    typedef void (*kino_call_fn)(void *context, struct kino_thing *thing);

    /**
     * Do it. Then
     * Queue: do it again.
     *
     * thing:   what to do.
     *          In detail.
     * one, two: numbers. Never in a
     * child.
     * Returns: 0.
     * Threads: any.
     * Errors:  -ENOMEM; KINO_ILL.
     */
    KINO_API int kino_do(struct kino_thing *thing, uint64_t one, uint64_t two, const char *long_name);

    KINO_API void kino_undo(void);
  C

  it "says what it is in one line, as whatis reads it" do
    expect(part(page(small), "NAME")).to eq "kino \\- a small thing\n"
  end

  it "keeps the paragraphs of the file, and what is indented as it stands" do
    expect(part(page(small), "DESCRIPTION")).to eq <<~'MAN'
      It has one paragraph.
      .PP
      .RS 4
      .nf
      \fBkino_do \-> kino_do\fP
      .fi
      .RE
      .PP
      And another - with \fBkino_do (x)\fP.
    MAN
  end

  it "lists functions with the names of their parameters, wrapped below each other" do
    expect(part(page(small), "SYNOPSIS")).to include <<~'MAN'
      \fBint kino_do(struct kino_thing *\fIthing\fB, uint64_t \fIone\fB, uint64_t \fItwo\fB,\fP
                  \fBconst char *\fIlong_name\fB);\fP
      \fBvoid kino_undo(void);\fP
    MAN
  end

  it "has constants that have a comment" do
    expect(part(page(small), "CONSTANTS")).to eq <<~'MAN'
      .TP
      \fBKINO_OFF\fP = UINT64_MAX
      None at all.
    MAN
  end

  it "gives an enumerator its value and the comment on its line" do
    expect(part(page(small), "enum kino_outcome")).to eq <<~'MAN'
      How it went.
      .TP
      \fBKINO_WELL\fP = 1 << 0
      as it should
      .TP
      \fBKINO_ILL\fP = \-5
      as it should not
    MAN
  end

  it "gives a member the comment on its line, and those behind a comment that comment" do
    expect(part(page(small), "struct kino_part")).to eq <<~'MAN'
      What it is made of.
      .PP
      uint64_t \fBsize\fP
      .TP
      const char *\fBfirst\fP
      .TQ
      uint64_t \fBsecond\fP
      One, then the other.
      .TP
      uint64_t \fBthird\fP
      alone
      .PP
      uint64_t \fBfourth\fP
      .TP
      void (*\fBdone\fP)(void *context)
      called once, at "its" end
      .PP
      char \fBname\fP[16]
    MAN
  end

  it "tells a parameter from a sentence with a colon" do
    expect(part(page(small), "kino_do")).to end_with <<~'MAN'
      .PP
      Do it.
      Then Queue: do it again.
      .TP 10
      \fIthing\fP
      what to do.
      In detail.
      .TP 10
      \fIone, two\fP
      numbers.
      Never in a child.
      .TP 10
      \fIReturns\fP
      0.
      .TP 10
      \fIThreads\fP
      any.
      .TP 10
      \fIErrors\fP
      \fB\-ENOMEM\fP; \fBKINO_ILL\fP.
    MAN
  end

  it "lets nothing in a comment become a macro or an escape" do
    text = page(small.sub("It has one", ".so /etc/passwd").sub("And another", "'x \\fBbold\\n"))
    expect(part(text, "DESCRIPTION")).to include("\\&.so").and include("\\&'x \\efBbold\\en")
  end

  describe "of kino.h" do
    let(:text) { page(File.read(KINO_H)) }
    # Without its comments, and read in another way than the generator's.
    let(:code) { File.read(KINO_H).gsub(%r{/\*.*?\*/}m, "") }

    it "has every function, with who may call it and how it fails" do
      functions = code.scan(/\b(kino_\w+)\(/).flatten
      expect(functions.size).to be > 20
      functions.each do |function|
        expect(part(text, function)).to match(/^\\fIThreads\\fP$.*^\\fIErrors\\fP$/m), function
        expect(part(text, "SYNOPSIS")).to match(/\b#{function}\(/)
      end
    end

    it "has every struct with its fields" do
      structs = code.scan(/^struct (kino_\w+) \{(.*?)^\}/m)
      expect(structs.size).to be > 5
      structs.each do |name, fields|
        fields.scan(/(\w+)(?:\[\w+\])?;/).flatten.each do |field|
          expect(part(text, "struct #{name}")).to include("\\fB#{field}\\fP"), "#{name}.#{field}"
        end
      end
      code.scan(/^struct (kino_\w+);/).flatten.each do |name|
        expect(part(text, "TYPES")).to include("\\fBstruct #{name}\\fP")
      end
    end

    it "has every enum with its values" do
      enums = code.scan(/^enum (kino_\w+) \{(.*?)^\}/m)
      expect(enums.size).to be > 5
      enums.each do |name, values|
        values.scan(/KINO_\w+(?=\s*=)/).each do |value|
          expect(part(text, "enum #{name}")).to include("\\fB#{value}\\fP"), value
        end
      end
    end

    it "has every type of callback" do
      callbacks = code.scan(/^typedef .*?(kino_\w+_fn)\)/).flatten
      expect(callbacks).not_to be_empty
      callbacks.each { expect(part(text, _1)).to include("typedef ") }
    end

    def complaints(*command)
      Tempfile.create("page") do |file|
        file.write(text)
        file.close
        Open3.capture2e(*command, file.path).first
      end
    rescue Errno::ENOENT
      skip "#{command.first} is not installed"
    end

    it "gives mandoc no cause to complain" do
      expect(complaints("mandoc", "-Tlint")).to eq ""
    end

    it "gives groff no cause to warn" do
      expect(complaints("groff", "-ww", "-man", "-Tutf8", "-z")).to eq ""
    end
  end
end
