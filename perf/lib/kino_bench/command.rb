# frozen_string_literal: true

require_relative "benchmark"
require_relative "machine"
require_relative "options"
require_relative "report"

module KinoBench
  # One run of kino-bench, from its arguments to what it prints.
  class Command
    def initialize(arguments)
      @arguments = arguments
      @options = Options.new(arguments)
      @out = @options.json == "-" ? $stderr : $stdout
      @table = ServerTable.new(ruby: -> { ruby }, idle: @options.idle)
    end

    # Whether all went well: every request got a good answer.
    def run
      if @options.help? then puts @options.help
      elsif @options.list? then list
      else
        report = measure(ready(@options.servers.map { @table.fetch(_1) }))
        write(report.json)
        return report.errors.empty?
      end
      true
    end

    private

    def ruby = @ruby ||= @options.ruby || Rubies.newest

    def list
      @table.names.each do |name|
        remedy = @table.fetch(name).remedy
        puts "#{name.ljust(20)} #{remedy ? "missing; do: #{remedy}" : 'ready'}"
      end
    end

    # The servers that can be started. What is missing is installed if that was asked for, and else
    # named and left out.
    def ready(servers)
      servers.each { install(_1) if _1.remedy } if @options.install?
      present, missing = servers.partition { _1.remedy.nil? }
      missing.each { @out.puts "skipped: #{_1.name} is not installed; do: #{_1.remedy}" }
      raise Failure, "no server is left to measure" if present.empty?

      present.uniq(&:class).each(&:refresh)
      present
    end

    def install(server)
      system(server.remedy, out: :err) and server.remedy.nil? or
        raise Failure, "#{server.name} could not be installed; tried: #{server.remedy}"
    end

    def measure(servers)
      header = header(servers)
      @out.puts header, ""
      report = Report.new(Benchmark.new(servers, @options).run, header)
      @out.puts report.table
      report
    end

    # Where the figures come from, so that none travels without it.
    def header(servers)
      o = @options
      [
        "command: perf/kino-bench #{@arguments.map { quote(_1) }.join(' ')}",
        "machine: #{Machine.description}",
        ("ruby:    #{Rubies.description(ruby)}" if servers.any?(&:ruby?)),
        "tree:    #{Machine.revision}",
        "load:    wrk #{Wrk.version} with #{o.connections} connections, #{o.threads} thread(s); " \
        "GET #{o.path}, pipelined by #{o.pipeline}#{", beside #{o.idle} idle ones" if o.idle > 0}",
        "rounds:  #{o.rounds} of #{o.duration} s in turn, after #{o.warmup} s each to warm up",
        "Medians, and their ratio to the first server's. PSS splits pages that these servers share."
      ].compact
    end

    # As one would type it, where Shellwords would put a backslash before every odd character.
    def quote(argument)
      argument.match?(%r{\A[\w@%+=:,./-]+\z}) ? argument : "'#{argument.gsub("'", "'\\\\''")}'"
    end

    def write(json)
      case @options.json
      when nil then nil
      when "-" then puts(json)
      else File.write(@options.json, json)
      end
    end
  end
end
