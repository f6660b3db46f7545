# frozen_string_literal: true

require "etc"

module KinoBench
  # What a process and all that descend from it used: CPU time and memory, as the kernel counts
  # them. A process's stat already sums its threads, the kernel's own io_uring workers included.
  class ProcessTree
    TICKS_PER_SECOND = Etc.sysconf(Etc::SC_CLK_TCK)

    Stat = Data.define(:parent, :ticks) do
      # The name in parentheses may hold spaces and parentheses, so the fields count from the last
      # one. Times of children already waited for belong in: a worker may die within a round.
      def self.parse(line)
        fields = line[(line.rindex(")") + 2)..].split
        new(parent: Integer(fields[1]), ticks: fields[11, 4].sum { Integer(_1) })
      end
    end

    # root: where /proc is, so that a test can show it a tree of its own.
    def initialize(pid, root: "/proc")
      @pid = pid
      @root = root
    end

    def cpu_seconds = stats.values.sum(&:ticks) / TICKS_PER_SECOND.to_f

    # Proportional set size: a page that several processes map counts in equal parts to each.
    def pss_bytes = stats.keys.sum { kilobytes(_1, "smaps_rollup", "Pss") } * 1024

    def rss_bytes = stats.keys.sum { kilobytes(_1, "status", "VmRSS") } * 1024

    private

    def stats
      all = Dir.children(@root).grep(/\A\d+\z/).to_h { [Integer(_1), stat(_1)] }.compact
      children = all.keys.group_by { all[_1].parent }
      family = [@pid]
      family.each { family.concat(children.fetch(_1, [])) }
      all.slice(*family)
    end

    def stat(pid)
      Stat.parse(read(pid, "stat") || return)
    end

    def kilobytes(pid, file, key)
      Integer(read(pid, file).to_s[/^#{key}:\s+(\d+) kB/, 1] || 0)
    end

    # A process may end between being listed and being read.
    def read(pid, file)
      File.read(File.join(@root, pid.to_s, file))
    rescue Errno::ENOENT, Errno::ESRCH
      nil
    end
  end
end
