# frozen_string_literal: true

require "tmpdir"
require_relative "client"
require_relative "memory"

module Soak
  # One run: load, TERM under load, and what became of every request.
  class Run
    # The server's own drain deadline is 30 s.
    DRAIN_SECONDS = 35

    Check = Data.define(:name, :value, :holds)

    def initialize(server, options)
      @server = server
      @options = options
    end

    # The checks, in the order in which they are shown.
    def checks
      Dir.mktmpdir("kino-soak") do |directory|
        @running = KinoBench::RunningServer.new(@server, directory)
        client = Client.new(@running.port, exchanges, @options.connections)
        with_background_load { load(client) }
        [*requests(client), *exit_checks]
      ensure
        @running&.stop
      end
    end

    private

    def exchanges
      @options.paths.map do |path|
        answer = @running.await(path)
        raise KinoBench::Failure, "#{@server.name} answers #{answer.status} to #{path}" if
          answer.status != 200

        Connection::Exchange.new(request: "GET #{path} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                 body: answer.body.b)
      end
    end

    def load(client)
      start = now
      @memory = Memory.new(-> { now - start }, -> { @running.tree.rss_bytes })
      client.run(start + (@options.minutes * 60)) do
        raise KinoBench::Failure, "the server ended: #{@running.last_words}" unless @running.alive?

        @memory.sample
      end
      @loaded_seconds = now - start
      @term_at = now
      @running.terminate
      client.terminated!
      client.run_out(@term_at + DRAIN_SECONDS)
    rescue Errno::ECONNREFUSED
      raise KinoBench::Failure, "the server does not listen any more: #{@running.last_words}"
    end

    # wrk goes on past the TERM, so that it meets a server under its load too.
    def with_background_load
      return yield unless @options.wrk_connections.positive?

      seconds = (@options.minutes * 60).ceil + DRAIN_SECONDS
      wrk = Process.spawn("wrk", "-c", @options.wrk_connections.to_s, "-t", "1", "-d",
                          "#{seconds}s", @running.url(@options.paths.first),
                          out: File::NULL, err: File::NULL)
      begin
        yield
      ensure
        Process.kill(:TERM, wrk)
        Process.wait(wrk)
      end
    end

    def requests(client)
      tally = client.tally
      [
        Check.new("answered", format("%d (%.0f a second)", tally.answered,
                                     tally.answered / @loaded_seconds), tally.answered.positive?),
        none("wrong status or body", tally.wrong),
        none("lost: sent before TERM, no answer", tally.lost),
        none("cut: answered in part", tally.cut),
        none("still open after the drain", client.open_connections),
        Check.new("refused: sent after TERM (allowed)", tally.refused.to_s, true)
      ]
    end

    def none(name, count) = Check.new(name, count.to_s, count.zero?)

    def exit_checks
      status = @running.wait(@term_at + DRAIN_SECONDS - now)
      good = status&.success?
      [
        Check.new("exit after TERM", format("in %.2f s: %s", now - @term_at,
                                            good ? "status 0" : @running.last_words), good),
        Check.new("resident memory", @memory.to_s, @memory.steady?)
      ]
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
