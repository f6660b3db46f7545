# frozen_string_literal: true

require "fileutils"
require "tmpdir"

module KinoBench
  # Starts servers beside each other, makes sure that they answer alike, and loads them in turn:
  # A B C A B C …, so that what the machine does meanwhile hits all of them.
  class Benchmark
    # The last two are what one idle connection adds, or nil where there are none.
    Round = Data.define(:requests_per_second, :cpu_us, :p50_us, :p99_us, :pss_bytes, :errors,
                        :idle_pss_bytes, :idle_rss_bytes)

    def initialize(servers, options)
      @servers = servers
      @options = options
      @wrk = Wrk.new(connections: options.connections, threads: options.threads,
                     pipeline: options.pipeline, cores: options.wrk_cores)
    end

    # The rounds of each server, by its name.
    def run
      Descriptors.raise_limit
      Dir.mktmpdir("kino-bench") do |directory|
        with_running(directory) do |running|
          check_alike(running)
          running.each { load(_1, @options.warmup) } if @options.warmup.positive?
          @before = running.to_h { [_1, memory(_1)] }
          turns = Array.new(@options.rounds) { running.map { round(_1) } }
          running.map(&:name).zip(turns.transpose).to_h
        end
      end
    end

    private

    def with_running(directory)
      running = []
      @servers.each do |server|
        own = File.join(directory, server.name).tap { FileUtils.mkdir_p(_1) }
        running << RunningServer.new(server, own, cores: @options.server_cores)
      end
      yield running
    ensure
      running.each(&:stop)
    end

    def check_alike(running)
      answers = running.to_h { [_1.name, _1.await(@options.path)] }
      first, expected = answers.first
      answers.each do |name, answer|
        raise Failure, "#{name} sends no content-type" unless answer.type
        unless answer.status == 200
          raise Failure, "#{name} answers #{answer.status} to #{@options.path}"
        end
        next if answer.body == expected.body

        raise Failure, "#{name} answers #{excerpt(answer.body)} where #{first} answers " \
                       "#{excerpt(expected.body)}"
      end
    end

    def excerpt(body)
      "#{body.bytesize} bytes #{body.byteslice(0, 20).inspect}"
    end

    # Memory is looked at before the load, which has its own.
    def round(server)
      return measure(server) if @options.idle.zero?

      IdleConnections.hold(server, @options.idle, @options.path) do |idle|
        added = memory(server).zip(@before[server]).map { |now, before| now - before }
        result = measure(server, added.map { _1.fdiv(idle.size) })
        return result if idle.lost.zero?

        raise Failure, "#{server.name} closed #{idle.lost} of #{idle.size} idle connections"
      end
    end

    def memory(server) = [server.tree.pss_bytes, server.tree.rss_bytes]

    def measure(server, idle_bytes = [nil, nil])
      before = server.tree.cpu_seconds
      result = load(server, @options.duration)
      cpu = server.tree.cpu_seconds - before
      raise Failure, "#{server.name} answered nothing: #{result.errors}" if result.requests.zero?

      Round.new(requests_per_second: result.requests / result.seconds,
                cpu_us: cpu * 1e6 / result.requests, p50_us: result.p50_us, p99_us: result.p99_us,
                pss_bytes: server.tree.pss_bytes, errors: result.errors,
                idle_pss_bytes: idle_bytes[0], idle_rss_bytes: idle_bytes[1])
    end

    def load(server, seconds)
      result = @wrk.run(server.url(@options.path), seconds)
      return result if server.alive?

      raise Failure, "#{server.name} ended under load: #{server.last_words}"
    end
  end
end
