# frozen_string_literal: true

require "tmpdir"
require_relative "../lib/kino_bench"

RSpec.describe KinoBench::ProcessTree do
  # A /proc with these processes: by pid their name, parent, four times in ticks, PSS and RSS in kB.
  def with_proc(processes)
    Dir.mktmpdir do |root|
      processes.each do |pid, (name, parent, ticks, pss, rss)|
        Dir.mkdir("#{root}/#{pid}")
        # Between the parent and the times stand nine fields that do not matter here.
        File.write("#{root}/#{pid}/stat",
                   "#{pid} (#{name}) S #{parent} 5 6 7 8 9 10 11 12 13 #{ticks.join(' ')} 20 0 1 0")
        File.write("#{root}/#{pid}/smaps_rollup",
                   "Rss:  #{rss} kB\nPss:  #{pss} kB\nPss_Anon: 1 kB\n")
        File.write("#{root}/#{pid}/status", "VmHWM: 1 kB\nVmRSS:   #{rss} kB\n")
      end
      Dir.mkdir("#{root}/sys")
      yield root
    end
  end

  let(:processes) do
    { 10 => ["master", 1, [100, 50, 0, 0], 20, 40],
      11 => ["a worker) S 1 (x", 10, [7, 3, 20, 20], 30, 60],
      12 => ["grandchild", 11, [0, 100, 0, 0], 50, 100], 13 => ["stranger", 1, [9, 9, 9, 9], 9, 9] }
  end

  it "sums user and system time of a process, its descendants and their dead children" do
    with_proc(processes) do |root|
      ticks = described_class.new(10, root:).cpu_seconds * described_class::TICKS_PER_SECOND
      expect(ticks).to eq 100 + 50 + 7 + 3 + 20 + 20 + 100
    end
  end

  it "sums the memory of the same processes" do
    with_proc(processes) do |root|
      tree = described_class.new(11, root:)
      expect(tree.pss_bytes).to eq 80 * 1024
      expect(tree.rss_bytes).to eq 160 * 1024
    end
  end

  it "counts nothing for a process that has ended" do
    with_proc(processes) { |root| expect(described_class.new(99, root:).cpu_seconds).to eq 0 }
  end

  it "reads the kernel's own files" do
    tree = described_class.new(Process.pid)
    used = Process.times.then { _1.utime + _1.stime + _1.cutime + _1.cstime }
    expect(tree.cpu_seconds).to be_within(0.1).of(used)
    expect(tree.rss_bytes).to be > tree.pss_bytes
  end
end
